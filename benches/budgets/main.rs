//! Each stage beside the floor that it is measured by, as one table; fails where one is worse than
//! `perf/budgets.toml` allows.
//!
//! ```text
//! cargo bench --bench budgets                     all of it, two minutes
//! cargo bench --bench budgets -- --only tsbs      what has this in its stage or shape
//! cargo bench --bench budgets -- --rounds 1       once: for callgrind
//! cargo bench --bench budgets -- --test           as the gate runs it: few rounds, some slack
//! ```
//!
//! Stage and floor do the same work on the same bytes in turn, in many short rounds. Times are
//! processor time of this thread; a figure is the median over the rounds of the ratio within each,
//! so that neither other work nor a clock that moves decides.

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "its result")]

use std::process::ExitCode;

#[path = "../support/random.rs"]
mod random;

#[path = "../support/json_bodies.rs"]
#[expect(dead_code, reason = "shared with other benches")]
mod json_bodies;

#[path = "../support/line_bodies.rs"]
mod line_bodies;

#[path = "../support/msgpack_bodies.rs"]
#[expect(dead_code, reason = "shared with other benches")]
mod msgpack_bodies;

#[path = "../support/tables.rs"]
#[expect(dead_code, reason = "shared with other benches")]
mod tables;

mod budget;

mod decoding;

mod encoding;

mod floors;

mod rounds;

use budget::{Budget, Verdict};
use rounds::{Comparison, Figures};

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds where nothing else is asked for, and in the gate.
const ROUNDS: usize = 101;
const ROUNDS_OF_GATE: usize = 9;
/// How much worse than its budget a figure may be in the gate, which is short and shares its
/// machine.
const SLACK_OF_GATE: f64 = 1.5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value_of = |name: &str| {
        let at = arguments.iter().position(|it| it == name)?;
        arguments.get(at + 1).cloned()
    };
    let is_gate = arguments.iter().any(|it| it == "--test");
    let only = value_of("--only").unwrap_or_default();
    let rounds = value_of("--rounds").map(|it| it.parse().unwrap());
    let rounds = rounds.unwrap_or(if is_gate { ROUNDS_OF_GATE } else { ROUNDS });
    let slack = if is_gate { SLACK_OF_GATE } else { 1.0 };

    let budgets = Budget::all();
    let is_wanted = |it: &Comparison| format!("{} {}", it.stage, it.shape).contains(&only);
    let mut comparisons = decoding::comparisons();
    comparisons.extend(encoding::comparisons());
    comparisons.retain(is_wanted);
    if only.is_empty() {
        floors::print(rounds);
    }
    let figures = rounds::run(comparisons, rounds);
    let is_met = print(&budgets, &figures, slack, only.is_empty());
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the table; whether every figure keeps its budget, and every stage and budget its other.
fn print(budgets: &[Budget], figures: &[Figures], slack: f64, is_all: bool) -> bool {
    println!("\n| stage | shape | figure | measured | spread | budget | required | aim | |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut is_met = true;
    for of_stage in figures {
        let mut count = 0;
        for budget in budgets.iter().filter(|it| it.is_of(of_stage)) {
            count += 1;
            let verdict = budget.verdict(of_stage, slack);
            is_met &= verdict != Verdict::Worse;
            println!("{}", budget.row(of_stage, verdict));
        }
        if count == 0 {
            is_met = false;
            println!("| {} | {} | no budget | | | | | | |", of_stage.stage, of_stage.shape);
        }
    }
    for budget in budgets.iter().filter(|_| is_all) {
        if !figures.iter().any(|it| budget.is_of(it)) {
            is_met = false;
            println!("| {} | {} | no stage | | | | | | |", budget.stage, budget.shape);
        }
    }
    is_met
}
