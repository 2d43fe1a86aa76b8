//! `perf/budgets.toml`: what each figure may be, what is required of it, and what is aimed at.

use toml::{Table, Value};

use crate::rounds::Figures;

/// The file.
const TEXT: &str = include_str!("../../perf/budgets.toml");

/// How a figure is made of two times, and which way is better.
#[derive(Clone, Copy, Debug)]
enum Figure {
    /// The stage's time for one of the floor. Less is better.
    Slowdown,
    /// The floor's time for one of the stage. More is better.
    Speedup,
    /// Bytes of input in a second. More is better.
    Rate,
    /// Less is better.
    Row,
}

/// One figure of one stage and shape.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) stage: String,
    pub(crate) shape: String,
    /// What the floor is, for the reader.
    floor: String,
    figure: Figure,
    /// Worse than this fails.
    bound: f64,
    /// What the project has set itself; absent where nothing has been.
    required: Option<f64>,
    aim: Option<f64>,
}

/// How a figure stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It is what is required, or nothing is.
    Holds,
    /// It keeps its budget, and is not yet what is required.
    Open,
    /// It does not keep its budget.
    Worse,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench")]
impl Budget {
    /// The budgets of the file, in its order.
    pub(crate) fn all() -> Vec<Self> {
        let file: Table = TEXT.parse().unwrap();
        let budgets = file.get("budget").and_then(Value::as_array).unwrap();
        budgets.iter().map(|it| Self::of(it.as_table().unwrap())).collect()
    }

    fn of(table: &Table) -> Self {
        const KEYS: [&str; 7] = ["stage", "shape", "floor", "figure", "budget", "required", "aim"];
        assert!(table.keys().all(|key| KEYS.contains(&key.as_str())), "one of {KEYS:?}: {table:?}");
        let text = |key: &str| table.get(key).and_then(Value::as_str).unwrap().to_owned();
        let number = |value: &Value| match value {
            Value::Integer(number) => *number as f64,
            value => value.as_float().unwrap(),
        };
        Self {
            stage: text("stage"),
            shape: text("shape"),
            floor: text("floor"),
            figure: match &*text("figure") {
                "times the floor" => Figure::Slowdown,
                "times faster" => Figure::Speedup,
                "MB/s" => Figure::Rate,
                "ns/row" => Figure::Row,
                other => panic!("expected a figure, found {other}"),
            },
            bound: table.get("budget").map(number).unwrap(),
            required: table.get("required").map(number),
            aim: table.get("aim").map(number),
        }
    }

    pub(crate) fn is_of(&self, it: &Figures) -> bool {
        self.stage == it.stage && self.shape == it.shape
    }

    fn measured(&self, it: &Figures) -> f64 {
        match self.figure {
            Figure::Slowdown => it.ratio,
            Figure::Speedup => 1.0 / it.ratio,
            Figure::Rate => it.bytes as f64 * 1e3 / it.ours_ns,
            Figure::Row => it.ours_ns / it.rows as f64,
        }
    }

    /// Whether `measured` is at least as good as `bound`, or worse by less than `slack`.
    fn is_within(&self, measured: f64, bound: f64, slack: f64) -> bool {
        match self.figure {
            Figure::Slowdown | Figure::Row => measured <= bound * slack,
            Figure::Speedup | Figure::Rate => measured >= bound / slack,
        }
    }

    pub(crate) fn verdict(&self, it: &Figures, slack: f64) -> Verdict {
        let measured = self.measured(it);
        if !self.is_within(measured, self.bound, slack) {
            return Verdict::Worse;
        }
        match self.required {
            Some(required) if !self.is_within(measured, required, 1.0) => Verdict::Open,
            _ => Verdict::Holds,
        }
    }

    /// As a row of the table.
    pub(crate) fn row(&self, it: &Figures, verdict: Verdict) -> String {
        let figure = match self.figure {
            Figure::Slowdown => format!("times {}", self.floor),
            Figure::Speedup => format!("times faster than {}", self.floor),
            Figure::Rate => "MB/s".to_owned(),
            Figure::Row => "ns/row".to_owned(),
        };
        let shown = |bound: Option<f64>| bound.map_or_else(String::new, |it| it.to_string());
        let verdict = match verdict {
            Verdict::Holds => "holds",
            Verdict::Open => "open",
            Verdict::Worse => "WORSE",
        };
        format!(
            "| {} | {} | {figure} | {:.2} | {:.0} % | {} | {} | {} | {verdict} |",
            self.stage,
            self.shape,
            self.measured(it),
            it.spread * 100.0,
            self.bound,
            shown(self.required),
            shown(self.aim),
        )
    }
}
