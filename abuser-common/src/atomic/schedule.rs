//! Interleavings chosen by a test: threads take turns, and change at every access to a word
//! as the schedule says.

use std::{
    cell::RefCell,
    sync::{Arc, Condvar, Mutex},
    vec::Vec,
};

thread_local! {
    static SELF: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
}

struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    running: usize,
    alive: Vec<bool>,
    /// For each access in turn, which of the threads that are left goes on; all rest on
    /// the first one when it is used up.
    schedule: std::vec::IntoIter<u8>,
}

impl State {
    fn choose(&mut self) {
        let alive: Vec<_> = (0..self.alive.len()).filter(|n| self.alive[*n]).collect();
        if let Some(choice) = alive
            .len()
            .checked_sub(1)
            .map(|last| usize::from(self.schedule.next().unwrap_or(0)) % (last + 1))
        {
            self.running = alive[choice];
        }
    }
}

/// Called before every access to a word.
pub(super) fn point() {
    let own = SELF.with(|own| own.borrow().clone());
    let Some((turns, number)) = own else {
        return;
    };
    let mut state = turns.state.lock().unwrap();
    state.choose();
    turns.changed.notify_all();
    while state.running != number {
        state = turns.changed.wait(state).unwrap();
    }
}

/// Runs all of `tasks`, one at a time, as `schedule` says.
pub(crate) fn run<R: Send>(schedule: Vec<u8>, tasks: Vec<impl FnOnce() -> R + Send>) -> Vec<R> {
    let turns = Arc::new(Turns {
        state: Mutex::new(State {
            running: 0,
            alive: std::vec![true; tasks.len()],
            schedule: schedule.into_iter(),
        }),
        changed: Condvar::new(),
    });
    std::thread::scope(|scope| {
        let threads: Vec<_> = tasks
            .into_iter()
            .enumerate()
            .map(|(number, task)| {
                let turns = Arc::clone(&turns);
                scope.spawn(move || {
                    {
                        let mut state = turns.state.lock().unwrap();
                        while state.running != number {
                            state = turns.changed.wait(state).unwrap();
                        }
                    }
                    SELF.with(|own| *own.borrow_mut() = Some((Arc::clone(&turns), number)));
                    let result = task();
                    SELF.with(|own| *own.borrow_mut() = None);
                    let mut state = turns.state.lock().unwrap();
                    state.alive[number] = false;
                    state.choose();
                    turns.changed.notify_all();
                    result
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}
