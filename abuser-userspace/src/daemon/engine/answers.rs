//! From commands to answers.

use abuser_common::layout::AllowOrigin;

use super::{Changed, Command, Engine, EngineError, Reply, Stop, allow, log_failure};

impl Engine {
    /// Does what is asked, and answers; why the engine is to stop, if it is.
    pub(super) async fn handle_command(&mut self, command: Command) -> Option<Stop> {
        match command {
            Command::Status(reply) => self.tell_status(reply),
            Command::Limits(reply) => self.tell_limits(reply),
            Command::Metrics(reply) => self.tell_readings(reply),
            Command::Top(count, reply) => {
                let (top, search) = self.top(count);
                complete(reply, top, |top| search.complete(top));
            }
            Command::CompleteTop(top, reply) => answer(reply, self.complete_top(*top)),
            Command::Observe(request, by, reply) => answer(reply, self.observe(request, &by)),
            Command::BanPage(after, reply) => answer(reply, self.ban_page(after)),
            Command::SomeBans(order, count, reply) => answer(reply, self.some_bans(order, count)),
            Command::Covering(address, reply) => answer(reply, self.bans_covering(address)),
            Command::Explain(address, reply) => self.explain(address, reply),
            Command::Ban(request, by, reply) => {
                let changed = self.ban_by_hand(&request, &by);
                self.answer_when_stored(reply, changed);
            }
            Command::Import(request, by, reply) => {
                let changed = self.import(&request, &by);
                self.answer_when_stored(reply, changed);
            }
            Command::Unban(request, by, reply) => {
                let changed = self.unban_by_hand(&request, &by);
                self.answer_when_stored(reply, changed);
            }
            Command::Offences(request, by, reply) => {
                let changed = self.offences_reported(&request, &by);
                self.answer_when_stored(reply, changed);
            }
            Command::Detected(detected) => {
                self.act_on(detected);
                // There may be many more, and those who follow the events keep up with these.
                tokio::task::yield_now().await;
            }
            Command::Positions(changes) => self.keep(changes),
            Command::UnbanPage(after, by, reply) => {
                let changed = self.unban_page(after, &by);
                self.answer_when_stored(reply, changed);
            }
            Command::AllowList(reply) => answer(reply, Ok(self.allow_list())),
            Command::Allow(request, by, reply) => {
                let changed = self.allow_by_hand(&request, &by);
                self.answer_when_stored(reply, changed);
            }
            Command::Disallow(request, reply) => {
                let changed = self.disallow_by_hand(&request);
                self.answer_when_stored(reply, changed);
            }
            Command::ThrottlePage(after, reply) => answer(reply, Ok(self.throttle_page(after))),
            Command::Throttle(request, by, reply) => {
                let changed = self.throttle_by_hand(&request, &by);
                self.answer_when_stored(reply, changed);
            }
            Command::Unthrottle(request, by, reply) => {
                let changed = self.unthrottle_by_hand(&request, &by);
                self.answer_when_stored(reply, changed);
            }
            Command::Configured(allow) => {
                let replaced = allow::configured(&allow)
                    .and_then(|entries| self.replace_allowed(AllowOrigin::Config, entries));
                log_failure(replaced);
            }
            Command::Essential(essential) => {
                let followed = self.follow_essential(Some(essential));
                log_failure(followed);
            }
            Command::Reload(config, allow, reply) => {
                answer(reply, self.reload(&config, &allow).await);
            }
            Command::Blocklists(lists) => self.set_blocklists(lists),
            Command::Outside(list, update) => {
                self.follow_outside(list, update);
                // There may be many more, and those who follow the events keep up with these.
                tokio::task::yield_now().await;
            }
            Command::FleetAllowed(allowed) => {
                let entries = allow::of_fleet(allowed);
                log_failure(self.replace_allowed(AllowOrigin::Fleet, entries));
            }
            Command::Confirm(reply) => answer(reply, self.confirm()),
            Command::Detach(request, reply) => {
                let detached = self.detach(&request);
                let stop = detached.as_ref().is_ok_and(|detached| detached.stopped);
                answer(reply, detached);
                return stop.then_some(Stop::Detached);
            }
        }
        None
    }

    /// Answers when what was changed is on disk.
    fn answer_when_stored<T: Send + 'static>(
        &self,
        reply: Reply<T>,
        result: Result<Changed<T>, EngineError>,
    ) {
        match result {
            Ok(Changed { value, changes }) if changes.is_empty() => answer(reply, Ok(value)),
            Ok(Changed { value, changes }) => {
                let done = Box::new(move || answer(reply, Ok(value)));
                self.store.write(changes, Some(done));
            }
            Err(error) => answer(reply, Err(error)),
        }
    }
}

pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, EngineError>) {
    // Whoever asked may have gone.
    let _gone = reply.send(result);
}

/// Answers when `rest` has completed the result, for which bans do not wait.
pub(super) fn complete<T: Send + 'static>(
    reply: Reply<T>,
    result: Result<T, EngineError>,
    rest: impl FnOnce(&mut T) + Send + 'static,
) {
    tokio::task::spawn_blocking(move || {
        let result = result.map(|mut result| {
            rest(&mut result);
            result
        });
        answer(reply, result);
    });
}
