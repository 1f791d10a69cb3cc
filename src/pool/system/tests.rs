//! What the rest of the pool relies on, whatever system is below.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

/// A sleeper's two words.
#[derive(Default)]
struct Bed {
    word: AtomicU32,
    asleep: AtomicU32,
}

impl Bed {
    fn sleep(&self, sleepers: &Sleepers, who: Sleeper, expected: u32, deadline: Instant) -> Waited {
        sleepers.wait(who, &self.word, &self.asleep, expected, deadline)
    }

    fn wake(&self, sleepers: &Sleepers, who: Sleeper) -> bool {
        self.word.fetch_add(1, Ordering::SeqCst);
        sleepers.wake(who, &self.word, &self.asleep)
    }

    fn value(&self) -> u32 {
        self.word.load(Ordering::SeqCst)
    }
}

#[test]
fn memory_is_shared_by_its_descriptor_and_has_its_length() {
    let (length, buffers) = (HUGE_PAGE + 100, HUGE_PAGE);
    let ours = Mapping::shared(length, buffers).expect("memory");
    let file = ours.file().expect("a descriptor");
    // SAFETY: inside the mapping, aligned.
    unsafe { ours.base().add(16).cast::<u64>().write(0x0123_4567_89ab_cdef) };
    assert_eq!(read_word(file, 16).ok(), Some(0x0123_4567_89ab_cdef));
    assert_eq!(read_word(file, 24).ok(), Some(0), "what nobody wrote is zero");
    let theirs = Mapping::open(file, length, buffers).expect("the same memory");
    assert_ne!(theirs.base(), ours.base());
    // SAFETY: inside the mapping.
    unsafe {
        assert_eq!(theirs.base().add(16).cast::<u64>().read(), 0x0123_4567_89ab_cdef);
        theirs.base().add(length - 1).write(7);
        assert_eq!(ours.base().add(length - 1).read(), 7);
    }
    let wrong = Mapping::open(file, length + HUGE_PAGE, buffers).map(|memory| memory.length());
    assert_eq!(wrong.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
    drop(ours);
    // SAFETY: inside the mapping, which keeps the memory.
    assert_eq!(unsafe { theirs.base().add(length - 1).read() }, 7);
    assert!(memory() > 1 << 20);
}

/// How a forked child left that did nothing but `body`.
fn in_child(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child touches memory and leaves: it takes no lock of this process.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let nothing = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const nothing);
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
            libc::_exit(body());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
    }
}

#[test]
fn a_child_of_a_fork_has_only_what_was_kept_for_it_as_it_was_then() {
    let memory = Mapping::shared(4 * HUGE_PAGE, 0).expect("memory");
    let (lost, kept) = (memory.base(), place(&memory, 2 * HUGE_PAGE));
    // SAFETY: inside the mapping.
    let read = |at: NonNull<u8>| i32::from(unsafe { at.read_volatile() });
    // SAFETY: as above.
    let write = |at: NonNull<u8>, value: u8| unsafe { at.write_volatile(value) };
    write(lost, 1);
    write(kept, 2);
    memory.keep_for_children(kept, HUGE_PAGE).expect("kept");
    assert_eq!((read(lost), read(kept)), (1, 2));
    assert!([-libc::SIGSEGV, -libc::SIGBUS].contains(&in_child(|| read(lost))));
    let left = in_child(|| {
        let found = read(kept);
        write(kept, 9);
        found
    });
    assert_eq!((left, read(kept)), (2, 2), "what the child writes is its own");
    let private = Mapping::private(HUGE_PAGE).expect("memory");
    write(private.base(), 3);
    assert!([-libc::SIGSEGV, -libc::SIGBUS].contains(&in_child(|| read(private.base()))));
}

fn place(memory: &Mapping, offset: usize) -> NonNull<u8> {
    // SAFETY: inside the mapping.
    unsafe { memory.base().add(offset) }
}

#[test]
fn memory_that_was_given_back_can_be_used_again() {
    let memory = Mapping::shared(2 * HUGE_PAGE, 0).expect("memory");
    for round in 1..4 {
        // SAFETY: inside the mapping.
        unsafe {
            memory.base().write_bytes(round, memory.length());
            assert_eq!(memory.base().add(HUGE_PAGE).read_volatile(), round);
        }
        release(memory.base(), memory.length());
    }
}

#[test]
fn nobody_sleeps_when_the_word_has_changed_or_the_time_is_up() {
    let (sleepers, bed) = (Sleepers::new(1).expect("sleepers"), Bed::default());
    for who in [Sleeper::Helper, Sleeper::Dispatcher, Sleeper::Worker(0)] {
        assert!(!bed.wake(&sleepers, who), "nobody sleeps");
        assert_eq!(bed.sleep(&sleepers, who, bed.value() - 1, Instant::NEVER), Waited::Woken);
        let before = now();
        let waited = bed.sleep(&sleepers, who, bed.value(), before + SHORT);
        assert_eq!(waited, Waited::TimedOut);
        assert!(now() >= before + SHORT);
        assert!(!bed.wake(&sleepers, who), "he has left his bed");
    }
}

#[test]
fn each_sleeper_is_woken_for_himself() {
    let (sleepers, bed) = (Sleepers::new(0).expect("sleepers"), Bed::default());
    thread::scope(|scope| {
        let sleep = |who| {
            let (sleepers, bed) = (&sleepers, &bed);
            scope.spawn(move || bed.sleep(sleepers, who, 0, now() + LONG))
        };
        let (helper, dispatcher) = (sleep(Sleeper::Helper), sleep(Sleeper::Dispatcher));
        let wake_asleep = |who| {
            while !sleepers.wake(who, &bed.word, &bed.asleep) {
                thread::yield_now();
            }
        };
        wake_asleep(Sleeper::Dispatcher);
        assert_eq!(dispatcher.join().ok(), Some(Waited::Woken));
        assert!(!helper.is_finished());
        wake_asleep(Sleeper::Helper);
        assert_eq!(helper.join().ok(), Some(Waited::Woken));
    });
}

/// Two who wake each other by turns, each with descriptors of his own, as two processes have: no wake-up is lost.
#[test]
fn no_wake_up_is_lost() {
    const ROUNDS: u32 = 5000;
    let pool = Sleepers::new(2).expect("sleepers");
    let worker = Sleepers::open(&pool.files(1), 1).expect("the worker's ends");
    let (tasks, results) = (Bed::default(), Bed::default());
    let deadline = now() + LONG;
    let until = |sleepers: &Sleepers, who, bed: &Bed, value: u32| {
        while bed.value() < value && now() < deadline {
            bed.sleep(sleepers, who, value - 1, deadline);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                until(&worker, Sleeper::Worker(1), &tasks, round);
                results.wake(&worker, Sleeper::Dispatcher);
            }
        });
        for round in 1..=ROUNDS {
            tasks.wake(&pool, Sleeper::Worker(1));
            until(&pool, Sleeper::Dispatcher, &results, round);
        }
    });
    assert!(now() < deadline, "somebody slept for ever");
    assert_eq!((tasks.value(), results.value()), (ROUNDS, ROUNDS));
}

#[test]
fn more_wake_ups_than_a_pipe_has_room_for_wake_nobody_else_and_block_nobody() {
    let (sleepers, bed) = (Sleepers::new(1).expect("sleepers"), Bed::default());
    let who = Sleeper::Worker(0);
    bed.asleep.store(1, Ordering::SeqCst); // as one says who was killed in his sleep
    for _ in 0..200_000 {
        sleepers.wake(who, &bed.word, &bed.asleep);
    }
    bed.asleep.store(0, Ordering::SeqCst);
    bed.sleep(&sleepers, who, 0, now() + SHORT); // he who takes his place may be woken for nothing
    assert_eq!(bed.sleep(&sleepers, who, 0, now() + SHORT), Waited::TimedOut);
}

#[test]
fn a_signal_interrupts_a_sleeper() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let (sleepers, bed) = (Sleepers::new(0).expect("sleepers"), Bed::default());
    // SAFETY: a handler that does nothing, for a signal that nobody else uses here.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR2, &raw const action, ptr::null_mut());
    }
    thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let sleeper = scope.spawn(|| {
            // SAFETY: a plain call.
            sender.send(unsafe { libc::pthread_self() } as usize).expect("the other end is there");
            drop(sender);
            bed.sleep(&sleepers, Sleeper::Helper, 0, now() + LONG)
        });
        let thread = receiver.recv().expect("a thread") as libc::pthread_t;
        while !sleeper.is_finished() {
            // SAFETY: the thread is there until it is joined.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
            thread::sleep(SHORT);
        }
        assert_eq!(sleeper.join().ok(), Some(Waited::Interrupted));
    });
}

#[test]
fn threads_of_one_process_wake_each_other() {
    let word = AtomicU32::new(0);
    assert_eq!(wait_here(&word, 1, Instant::NEVER), Waited::Woken, "it had changed");
    let end = now() + SHORT;
    while wait_here(&word, 0, end) != Waited::TimedOut {} // others may be meant who wait elsewhere
    assert!(now() >= end);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while word.load(Ordering::SeqCst) == 0 {
                    wait_here(&word, 0, Instant::NEVER);
                }
            });
        }
        thread::sleep(SHORT);
        word.store(1, Ordering::SeqCst);
        wake_here(&word);
    });
    let left = in_child(|| {
        wake_nobody_here();
        i32::from(wait_here(&word, 1, now() + SHORT) != Waited::TimedOut)
    });
    assert_eq!(left, 0, "a child has a place to sleep, too");
}

fn sleeping() -> (Child, Process) {
    let child = Command::new("sleep").arg("60").spawn().expect("a child");
    let process = Process::open(child.id() as i32).expect("it is there");
    (child, process)
}

#[test]
fn the_end_of_a_process_is_seen_before_it_is_reaped_and_after() {
    let bell = Bell::new().expect("a bell");
    let ((mut one, mut first), (mut other, second)) = (sleeping(), sleeping());
    let watched = [first.watched(), second.watched()];
    let look = |span| ended(Some(bell.descriptor()), &watched, now() + span);
    assert_eq!(look(SHORT), [false, false]);
    bell.ring();
    assert_eq!(look(LONG), [false, false], "the bell rang");
    bell.hush();
    first.signal(libc::SIGKILL);
    assert_eq!(look(LONG), [true, false]);
    assert_eq!(look(LONG), [true, false], "it stays so until it is reaped");
    first.part_with();
    assert!(!one.wait().expect("a child").success());
    first.signal(libc::SIGKILL); // nobody is hit
    assert!(Process::open(one.id() as i32).is_err());
    second.signal(libc::SIGTERM);
    assert_eq!(ended(None, &[second.watched()], now() + LONG), [true]);
    other.wait().expect("a child");
}

#[test]
fn a_descriptor_is_readable_or_not() {
    let bell = Bell::new().expect("a bell");
    assert_eq!(readable(&[bell.descriptor()], now() + SHORT), [false]);
    bell.ring();
    bell.ring();
    assert_eq!(readable(&[bell.descriptor()], Instant::NEVER), [true]);
    bell.hush();
    assert_eq!(readable(&[bell.descriptor()], now()), [false]);
}
