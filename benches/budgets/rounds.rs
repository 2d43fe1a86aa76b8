//! Stage and floor in turn, many times, in short samples.

use std::time::Duration;

use cpu_time::ThreadTime;

/// Processor time that a sample has to take, so that reading the clock costs nothing beside it.
const SAMPLE_MIN: Duration = Duration::from_micros(400);
/// Most calls of a sample.
const CALLS_MAX: u32 = 512;

/// Does its work once, and says how long that took.
pub(crate) type Work = Box<dyn FnMut() -> Duration>;

/// A stage and a shape, as in `perf/budgets.toml`.
pub(crate) struct Comparison {
    pub(crate) stage: &'static str,
    pub(crate) shape: &'static str,
    /// Makes the input.
    pub(crate) prepare: Box<dyn FnOnce() -> Pair>,
}

impl Comparison {
    pub(crate) fn new(
        stage: &'static str,
        shape: &'static str,
        prepare: impl FnOnce() -> Pair + 'static,
    ) -> Self {
        Self { stage, shape, prepare: Box::new(prepare) }
    }
}

/// What is measured and the floor that it is measured by, on the same input.
pub(crate) struct Pair {
    /// What both read.
    pub(crate) bytes: usize,
    /// Rows of it.
    pub(crate) rows: u64,
    /// What is measured.
    pub(crate) ours: Work,
    /// What it is measured by.
    pub(crate) floor: Work,
}

/// What was measured of a comparison.
pub(crate) struct Figures {
    pub(crate) stage: &'static str,
    pub(crate) shape: &'static str,
    pub(crate) bytes: usize,
    pub(crate) rows: u64,
    /// Nanoseconds of the stage; the median.
    pub(crate) ours_ns: f64,
    /// The stage's time for one of the floor; the median.
    pub(crate) ratio: f64,
    /// Half of the ratios are within this part of the median, on either side.
    pub(crate) spread: f64,
}

/// Processor time of this thread that `work` takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = ThreadTime::now();
    let done = work();
    (done, start.elapsed())
}

/// A work all of which counts.
pub(crate) fn work<T>(mut work: impl FnMut() -> T + 'static) -> Work {
    Box::new(move || timed(|| std::hint::black_box(work())).1)
}

/// Nanoseconds of one call, after one that does not count.
fn sample(work: &mut Work, calls: u32) -> f64 {
    if calls > 1 {
        work();
    }
    let sum: Duration = (0..calls).map(|_| work()).sum();
    sum.as_secs_f64() * 1e9 / f64::from(calls)
}

/// How many calls make a sample.
fn calls(work: &mut Work) -> u32 {
    work();
    let once = work().max(Duration::from_nanos(1));
    let calls = SAMPLE_MIN.as_nanos() / once.as_nanos() + 1;
    u32::try_from(calls).unwrap().min(CALLS_MAX)
}

/// Measures all comparisons, a sample of each in every round.
pub(crate) fn run(comparisons: Vec<Comparison>, rounds: usize) -> Vec<Figures> {
    let mut all = Vec::new();
    for Comparison { stage, shape, prepare } in comparisons {
        let mut pair = prepare();
        let calls = (calls(&mut pair.ours), calls(&mut pair.floor));
        all.push((stage, shape, pair, calls, Vec::new()));
    }
    for round in 0..rounds {
        for (.., Pair { ours, floor, .. }, calls, samples) in &mut all {
            // Who comes first takes turns: whatever the first finds in the caches, so does the
            // other the next time.
            let pair = if round % 2 == 0 {
                let first = sample(ours, calls.0);
                (first, sample(floor, calls.1))
            } else {
                let first = sample(floor, calls.1);
                (sample(ours, calls.0), first)
            };
            samples.push(pair);
        }
    }
    let figures = all.iter().map(|(stage, shape, pair, _, samples)| {
        let (ours_ns, ratio, spread) = medians(samples);
        Figures { stage, shape, bytes: pair.bytes, rows: pair.rows, ours_ns, ratio, spread }
    });
    figures.collect()
}

/// Of pairs of times: the first, the first for one of the second, and how far that spreads.
fn medians(samples: &[(f64, f64)]) -> (f64, f64, f64) {
    let quartiles = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        [1, 2, 3].map(|quarter| values.get((values.len() - 1) * quarter / 4).copied().unwrap())
    };
    let mut ratios = samples.iter().map(|(ours, floor)| ours / floor).collect();
    let mut times = samples.iter().map(|(ours, _)| *ours).collect();
    let [low, ratio, high] = quartiles(&mut ratios);
    let [_, ours_ns, _] = quartiles(&mut times);
    (ours_ns, ratio, (high - low) / 2.0 / ratio)
}
