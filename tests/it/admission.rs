//! Room in memory: who gets it, who waits, who is refused; and that no byte of it is lost.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use peristyle::engine::{Admission, Engine, FairQueue, QueueTicket, Resident, Tenant};
use peristyle::error::{BusyReason, WriteError};
use tokio::runtime::{Builder, Runtime};

use crate::live::Live;
use crate::msgpack_bodies::Random;

const MIB: usize = 1 << 20;
/// Of the engines here: bodies begin in 4 MiB of it, and in 28 MiB with everything else.
const LIMIT: usize = 32 * MIB;
/// Of it, what bodies may have when one begins.
const PART: usize = LIMIT / 8;
/// Of it, what is for small bodies alone.
const SMALL: usize = LIMIT / 16;
/// Places of the engine's queue.
const PLACES: usize = 1024;

fn token(id: usize) -> Tenant<'static> {
    Tenant::Token(id as u64)
}

/// The queue again, told as a story: everything is looked up and summed up each time.
#[derive(Debug, Default)]
struct NaiveQueue {
    /// Ticket, tenant and bytes, in the order in which they came.
    waiting: Vec<(usize, usize, usize)>,
    /// What each tenant was given.
    given: BTreeMap<usize, usize>,
    level: usize,
    len_max: usize,
}

impl NaiveQueue {
    fn push(&mut self, ticket: usize, tenant: usize, bytes: usize) -> Option<usize> {
        if !self.waiting.iter().any(|it| it.1 == tenant) {
            let given = self.given.entry(tenant).or_default();
            *given = (*given).max(self.level);
        }
        self.waiting.push((ticket, tenant, bytes));
        if self.waiting.len() <= self.len_max {
            return None;
        }
        let sum = |tenant| self.waiting.iter().filter(|it| it.1 == tenant).map(|it| it.2).sum();
        let most: usize = self.waiting.iter().map(|it| sum(it.1)).max()?;
        // Equal sums do not come up: the bytes of the test are odd enough.
        let last = self.waiting.iter().rposition(|it| sum(it.1) == most)?;
        Some(self.leave(last).0)
    }

    fn pop(&mut self, room: usize) -> Option<usize> {
        let turn = |it: &(usize, usize, usize)| (self.given.get(&it.1).copied(), it.0);
        let first = *self.waiting.iter().min_by_key(|it| turn(it))?;
        if first.2 > room {
            return None;
        }
        self.level = *self.given.get(&first.1)?;
        *self.given.get_mut(&first.1)? += first.2;
        let at = self.waiting.iter().position(|it| *it == first)?;
        Some(self.leave(at).0)
    }

    fn remove(&mut self, ticket: usize) -> bool {
        let at = self.waiting.iter().position(|it| it.0 == ticket);
        at.map(|at| self.leave(at)).is_some()
    }

    fn leave(&mut self, at: usize) -> (usize, usize, usize) {
        let left = self.waiting.remove(at);
        if self.waiting.is_empty() {
            self.given.clear();
            self.level = 0;
        }
        left
    }
}

#[test]
fn turns_are_those_of_the_obvious_queue() {
    for seed in 1..300 {
        let mut random = Random::new(seed);
        let len_max = 1 + random.below(12);
        let mut queue = FairQueue::new(len_max);
        let mut naive = NaiveQueue { len_max, ..NaiveQueue::default() };
        let mut tickets: Vec<(QueueTicket, usize)> = Vec::new();
        for step in 0..400 {
            match random.below(5) {
                0..3 => {
                    let (tenant, bytes) = (random.below(5), 1 + random.below(1 << 30));
                    let number = tickets.len();
                    let (ticket, gave_way) = queue.push(token(tenant), bytes, number);
                    tickets.push((ticket, number));
                    let expected = naive.push(number, tenant, bytes);
                    assert_eq!(gave_way, expected, "seed {seed}, step {step}");
                }
                3 => {
                    let room = random.below(1 << 31);
                    let popped = queue.pop(|bytes| bytes <= room).map(|(_, number)| number);
                    assert_eq!(popped, naive.pop(room), "seed {seed}, step {step}");
                }
                _ if tickets.is_empty() => {}
                _ => {
                    let (ticket, number) = random.of(&tickets);
                    let removed = queue.remove(ticket);
                    let expected = naive.remove(number).then_some(number);
                    assert_eq!(removed, expected, "seed {seed}, step {step}");
                }
            }
            assert_eq!(queue.len(), naive.waiting.len(), "seed {seed}, step {step}");
            let bytes: usize = naive.waiting.iter().map(|it| it.2).sum();
            assert_eq!(queue.bytes(), bytes, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn tenants_that_always_wait_get_the_same_to_a_body_and_one_that_seldom_does_goes_first() {
    let mut random = Random::new(5);
    let mut queue = FairQueue::new(1000);
    // One asks with a hundred bodies at once, two with three large ones.
    let asked = [(0, 100, 10_000), (1, 3, 70_000), (2, 3, 90_000)];
    for (tenant, count, bytes_max) in asked {
        for _ in 0..count {
            let bytes = 1 + random.below(bytes_max);
            queue.push(token(tenant), bytes, (tenant, bytes_max));
        }
    }
    let mut given = [0_usize; 3];
    for _ in 0..2_000 {
        let (bytes, (tenant, bytes_max)) = queue.pop(|_| true).expect("all of them wait");
        given[tenant] += bytes;
        queue.push(token(tenant), 1 + random.below(bytes_max), (tenant, bytes_max));
        let (least, most) = (given.iter().min().unwrap(), given.iter().max().unwrap());
        assert!(most - least <= 90_000, "{given:?}");
    }
    // A polite tenant, who was not here: of each other one at most one body is before its own.
    queue.push(Tenant::Database(Cow::Borrowed("polite")), 1, (3, 0));
    let turn = std::iter::from_fn(|| queue.pop(|_| true)).position(|(_, (tenant, _))| tenant == 3);
    assert!(turn.is_some_and(|turn| turn <= 3), "{turn:?}");
}

#[test]
fn a_body_that_does_not_fit_keeps_its_turn() {
    let mut queue = FairQueue::new(10);
    queue.push(token(1), 100, "large");
    queue.push(token(1), 1, "small");
    assert_eq!(queue.pop(|bytes| bytes <= 99), None);
    assert_eq!(queue.pop(|bytes| bytes <= 100), Some((100, "large")));
    assert_eq!(queue.pop(|bytes| bytes <= 1), Some((1, "small")));
    assert!(queue.is_empty());
}

/// An engine with little memory, and what futures of it need.
struct Tight {
    live: Live,
    runtime: Runtime,
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Admission, WriteError>> + 'a>>;

impl Tight {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(resident: Option<Resident>) -> Self {
        let live = Live::start_with(|options| {
            (options.memory_limit, options.resident) = (LIMIT, resident);
        });
        Self { live, runtime: Builder::new_current_thread().enable_time().build().unwrap() }
    }

    fn engine(&self) -> &Engine {
        &self.live.engine
    }

    fn admit(&self, tenant: usize, bytes: usize) -> Waiting<'_> {
        Box::pin(self.engine().admit(token(tenant), bytes, 1))
    }

    fn poll(&self, waiting: &mut Waiting<'_>) -> Option<Result<Admission, WriteError>> {
        let _entered = self.runtime.enter();
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(admitted) => Some(admitted),
            Poll::Pending => None,
        }
    }

    /// Admitted at once.
    fn now(&self, bytes: usize) -> Admission {
        self.poll(&mut self.admit(0, bytes)).expect("no wait").expect("room")
    }

    /// Bytes of bodies, and how many wait.
    fn state(&self) -> (usize, usize) {
        let memory = self.engine().memory();
        (memory.bodies, memory.waiting)
    }
}

fn retry_after(refused: Option<Result<Admission, WriteError>>) -> u16 {
    match refused {
        Some(Err(WriteError::Busy(BusyReason::MemoryFull { retry_after_s }))) => retry_after_s,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[test]
fn bodies_begin_in_their_part_of_the_memory_to_the_byte() {
    let tight = Tight::new();
    let first = tight.now(PART - 2);
    let below = tight.now(1);
    let at = tight.now(1);
    let mut above = tight.admit(0, 1);
    assert!(tight.poll(&mut above).is_none());
    assert_eq!(tight.state(), (PART, 1));
    drop(below);
    let above = tight.poll(&mut above).expect("room was given back").expect("room");
    assert_eq!((above.bytes(), tight.state()), (1, (PART, 0)));
    drop((first, at, above));
    assert_eq!(tight.state(), (0, 0));
}

#[test]
fn one_body_may_have_more_and_grow_to_what_small_ones_have() {
    let tight = Tight::new();
    assert!((1..=30).contains(&retry_after(tight.poll(&mut tight.admit(0, 28 * MIB + 1)))));
    assert_eq!(tight.state(), (0, 0));
    let mut alone = tight.now(28 * MIB);
    assert!(tight.poll(&mut tight.admit(0, 1)).is_none());
    // A form does not wait; it is in what is kept for growth.
    let form = tight.engine().admit_form(1).expect("room for forms");
    alone.grow(30 * MIB - 1).expect("room to grow");
    assert!(alone.grow(30 * MIB).is_err());
    let more = tight.engine().admit_form(2 * MIB).expect("room for forms");
    assert!(tight.engine().admit_form(1).is_err());
    assert_eq!(tight.state(), (LIMIT, 0));
    drop((form, more));
    alone.grow(30 * MIB).expect("room to grow");
    alone.shrink(5);
    assert_eq!(tight.state(), (5, 0));
    drop(alone);
    assert_eq!(tight.state(), (0, 0));
}

/// Four large bodies that inflated held all there was, and good ones of ten lines waited 0.1 s.
#[test]
fn small_bodies_wait_for_no_large_one() {
    let tight = Tight::new();
    let mut large = tight.now(PART);
    large.grow(30 * MIB).expect("room to grow");
    let mut waiting = tight.admit(0, 1);
    assert!(tight.poll(&mut waiting).is_none());
    let small = |bytes| tight.engine().admit_small(bytes);
    let (first, below, at) = (small(SMALL - 2), small(1), small(1));
    assert!(first.is_some() && below.is_some() && at.is_some());
    assert!(small(1).is_none());
    assert_eq!(tight.state(), (LIMIT, 1));
    drop(at);
    let mut last = small(1).expect("room was given back");
    assert!(last.grow(2).is_err(), "it has no more room than a large one");
    large.shrink(MIB);
    last.grow(MIB).expect("it is a large one now");
    assert!(small(2).is_none());
    let again = small(1).expect("it is no small one any more");
    assert_eq!(tight.state(), (4 * MIB + 1, 0));
    drop((large, first, below, last, again));
    drop(tight.poll(&mut waiting).expect("its turn").expect("room"));
    assert_eq!(tight.state(), (0, 0));
}

#[test]
fn what_is_resident_and_not_accounted_leaves_less_to_all_but_a_body_that_is_alone() {
    // What the process has, an eighth of what that leaves, and what may begin of 28 MiB.
    let cases: [(Resident, usize); 3] = [
        (|| None, PART),
        (|| Some(8 << 20), 3 * MIB),
        // Three quarters of the limit at most.
        (|| Some(100 << 20), MIB),
    ];
    for (resident, part) in cases {
        let tight = Tight::with(Some(resident));
        let first = tight.now(part - 2);
        let (below, at) = (tight.now(1), tight.now(1));
        assert!(tight.poll(&mut tight.admit(0, 1)).is_none());
        drop((first, below, at));
        drop(tight.now(28 * MIB));
        assert_eq!(tight.state(), (0, 0));
    }
}

#[test]
fn a_body_does_not_grow_into_what_is_resident_and_a_form_may() {
    let tight = Tight::with(Some(|| Some(100 << 20)));
    let mut body = tight.now(1);
    body.grow(6 * MIB - 1).expect("room to grow");
    body.grow(6 * MIB).expect("room to grow");
    assert!(body.grow(6 * MIB + 1).is_err());
    let small = tight.engine().admit_small(2 * MIB).expect("room for small ones");
    let form = tight.engine().admit_form(24 * MIB).expect("room for forms");
    assert!(tight.engine().admit_form(1).is_err());
    drop((body, small, form));
    assert_eq!(tight.state(), (0, 0));
}

#[test]
fn a_surplus_that_is_given_back_is_forgotten() {
    static RESIDENT: AtomicUsize = AtomicUsize::new(8 * MIB);
    let tight = Tight::with(Some(|| Some(RESIDENT.load(Ordering::SeqCst) as u64)));
    let held = tight.now(1);
    assert!(tight.poll(&mut tight.admit(0, 3 * MIB)).is_none());
    RESIDENT.store(0, Ordering::SeqCst);
    let measured = (0..1_000).take_while(|_| {
        // A 32nd of the limit: it is measured again.
        drop(tight.now(MIB));
        tight.poll(&mut tight.admit(0, PART - 1)).is_none()
    });
    assert!((1..999).contains(&measured.count()));
    drop(held);
    assert_eq!(tight.state(), (0, 0));
}

#[test]
fn a_price_counts_up_to_the_part_of_bodies() {
    let tight = Tight::new();
    for (bytes, price, expected) in
        [(10, 17, 170), (MIB, 4, PART), (MIB, 5, PART), (9 * MIB, 2, 9 * MIB)]
    {
        let mut admitted: Waiting<'_> = Box::pin(tight.engine().admit(token(0), bytes, price));
        let admission = tight.poll(&mut admitted).expect("no wait").expect("room");
        assert_eq!(admission.bytes(), expected);
    }
}

#[test]
fn whoever_goes_away_while_waiting_holds_up_nobody() {
    let tight = Tight::new();
    let held = tight.now(PART - 10);
    let mut large = tight.admit(1, MIB);
    let mut small = tight.admit(1, 10);
    assert!(tight.poll(&mut large).is_none() && tight.poll(&mut small).is_none());
    assert_eq!(tight.state().1, 2);
    drop(large);
    let small = tight.poll(&mut small).expect("its turn").expect("room");
    // Room that is on its way to somebody who goes away goes to the next one.
    let mut gone = tight.admit(1, MIB);
    let mut next = tight.admit(2, MIB);
    assert!(tight.poll(&mut gone).is_none() && tight.poll(&mut next).is_none());
    drop(held);
    drop(gone);
    let next = tight.poll(&mut next).expect("its turn").expect("room");
    drop((small, next));
    assert_eq!(tight.state(), (0, 0));
}

#[test]
fn places_to_wait_are_bounded_and_the_tenant_with_the_most_gives_way() {
    let tight = Tight::new();
    let held = tight.now(PART);
    let mut polite = tight.admit(1, 100);
    assert!(tight.poll(&mut polite).is_none());
    let mut greedy: Vec<_> = (1..PLACES).map(|_| tight.admit(2, 10)).collect();
    assert!(greedy.iter_mut().all(|it| tight.poll(it).is_none()));
    assert_eq!(tight.state().1, PLACES);
    // One more of its own is refused at once.
    assert!((1..=30).contains(&retry_after(tight.poll(&mut tight.admit(2, 10)))));
    // One of another takes the place of its last.
    let mut third = tight.admit(3, 100);
    assert!(tight.poll(&mut third).is_none());
    let mut last = greedy.pop().expect("some wait");
    assert!((1..=30).contains(&retry_after(tight.poll(&mut last))));
    assert_eq!(tight.state().1, PLACES);
    drop(held);
    for waiting in greedy.iter_mut().chain([&mut polite, &mut third]) {
        drop(tight.poll(waiting).expect("its turn").expect("room"));
    }
    assert_eq!(tight.state(), (0, 0));
}

#[test]
fn no_byte_is_lost_or_given_twice_whoever_comes_and_goes() {
    let tight = Tight::new();
    for seed in 1..40 {
        let mut random = Random::new(seed);
        let mut held: Vec<Admission> = Vec::new();
        let mut waiting: Vec<Waiting<'_>> = Vec::new();
        for step in 0..300 {
            match random.below(8) {
                0 => held.extend(tight.engine().admit_small(1 + random.below(SMALL))),
                1..4 => {
                    let mut one = tight.admit(random.below(4), 1 + random.below(3 * MIB));
                    match tight.poll(&mut one) {
                        Some(admitted) => held.push(admitted.expect("it could fit")),
                        None => waiting.push(one),
                    }
                }
                4 if !waiting.is_empty() => {
                    drop(waiting.swap_remove(random.below(waiting.len())));
                }
                5 if !held.is_empty() => {
                    let (at, bytes) = (random.below(held.len()), random.below(4 * MIB));
                    // It may be refused.
                    let _ = held[at].grow(bytes);
                }
                6 if !held.is_empty() => {
                    let at = random.below(held.len());
                    held[at].shrink(random.below(MIB));
                }
                _ if held.is_empty() => {}
                _ => drop(held.swap_remove(random.below(held.len()))),
            }
            let mut still = Vec::new();
            for mut one in waiting.drain(..) {
                match tight.poll(&mut one) {
                    Some(admitted) => held.push(admitted.expect("it could fit")),
                    None => still.push(one),
                }
            }
            waiting = still;
            let bytes: usize = held.iter().map(Admission::bytes).sum();
            assert_eq!(tight.state(), (bytes, waiting.len()), "seed {seed}, step {step}");
            assert!(bytes <= LIMIT, "seed {seed}, step {step}");
            // Nobody waits for room that is there.
            assert!(waiting.is_empty() || bytes > PART - 3 * MIB, "seed {seed}, step {step}");
        }
        drop((held, waiting));
        assert_eq!(tight.state(), (0, 0), "seed {seed}");
    }
}

#[test]
fn threads_that_wait_for_each_other_all_get_in() {
    const THREADS: usize = 4;
    const BODIES: usize = 2_000;
    let tight = Tight::new();
    let in_flight = AtomicUsize::new(0);
    thread::scope(|scope| {
        for at in 0..THREADS {
            let (engine, in_flight) = (Arc::clone(&tight.live.engine), &in_flight);
            scope.spawn(move || {
                let runtime = Builder::new_current_thread().enable_time().build().unwrap();
                let mut random = Random::new(at as u64 + 1);
                for body in 0..BODIES {
                    let bytes = 1 + random.below(PART - 1);
                    let admitted = runtime.block_on(engine.admit(token(at), bytes, 1));
                    let admission = admitted.unwrap_or_else(|error| panic!("{body}: {error}"));
                    let sum = in_flight.fetch_add(bytes, Ordering::SeqCst) + bytes;
                    assert!(sum <= PART, "{sum}");
                    thread::yield_now();
                    in_flight.fetch_sub(bytes, Ordering::SeqCst);
                    drop(admission);
                }
            });
        }
    });
    assert_eq!(tight.state(), (0, 0));
}

#[test]
fn a_write_waits_for_room_and_what_is_small_or_no_write_does_not() {
    // More than 32 KiB: twice that is no small body any more.
    const LARGE: usize = (32 << 10) / LINE.len() + 1;
    const LINE: &str = "cpu v=1 1\n";
    let tight = Tight::new();
    let held = tight.now(PART);
    thread::scope(|scope| {
        let write = scope.spawn(|| tight.live.post("/write?db=a", LINE.repeat(LARGE)));
        while tight.state().1 == 0 {
            thread::yield_now();
        }
        let mut client = tight.live.client();
        for target in ["/health", "/ready", "/ping", "/metrics", "/api/v1/tables"] {
            let answer = client.get(target);
            assert!([200, 204].contains(&answer.status), "{target}: {answer:?}");
        }
        let metrics = client.get("/metrics").body;
        assert!(metrics.contains("\nperistyle_admissions_waiting 1\n"), "{metrics}");
        let small = client.post("/write?db=a", LINE.repeat(LARGE - 1));
        assert_eq!(small.status, 204, "{small:?}");
        assert_eq!(client.post("/query?q=CREATE+DATABASE+b", "").status, 200);
        assert_eq!(client.post("/query?q=DROP+DATABASE+b", "").status, 200);
        assert_eq!(tight.state().1, 1);
        drop(held);
        let answer = write.join().expect("no panic");
        assert_eq!(answer.status, 204, "{answer:?}");
        let metrics = client.get("/metrics").body;
        assert!(metrics.contains("\nperistyle_admission_wait_seconds_count 1\n"), "{metrics}");
    });
    assert_eq!(tight.live.rows("a").len(), 2 * LARGE - 1);
}
