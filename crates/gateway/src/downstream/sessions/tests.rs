//! Who shares a conversation, and who makes room.

use super::*;
use crate::downstream::callers::{caller, enforcer};
use crate::upstream::ChildCommand;

fn sessions(children: usize) -> Arc<Sessions> {
    // It reads and says nothing: nobody here speaks to it.
    let server = ChildCommand::inheriting(&["cat".into()]).at_most(children);
    let (_, reloaded) = watch::channel(0);
    Sessions::new(enforcer(), Upstream::Child(server), "/messages", reloaded, CancellationToken::new())
}

async fn shared(sessions: &Sessions, who: &Caller) -> Session {
    sessions.shared(who).await.unwrap_or_else(|response| panic!("{response:?}"))
}

#[tokio::test]
async fn clients_of_the_stateless_era_share_with_those_of_their_grant_only() {
    let sessions = sessions(8);
    let first = shared(&sessions, &caller("ada", "g")).await;
    assert!(first.commands.same_channel(&shared(&sessions, &caller("ada", "g")).await.commands));
    for other in [caller("bob", "g"), caller("ada", "h")] {
        assert!(!first.commands.same_channel(&shared(&sessions, &other).await.commands), "{other:?}");
    }
    sessions.shut_down().await;
}

#[tokio::test]
async fn a_grant_that_has_gone_quiet_makes_room_for_another() {
    let sessions = sessions(1);
    let first = shared(&sessions, &caller("ada", "g")).await;
    assert!(sessions.shared(&caller("bob", "h")).await.is_err(), "it is used");
    let Some(long_ago) = Instant::now().checked_sub(QUIET + Duration::from_secs(1)) else {
        return eprintln!("skipped: this machine has run for too short a time");
    };
    first.state().used = long_ago;
    assert!(sessions.shared(&caller("bob", "h")).await.is_err(), "somebody waits in it");
    drop(first);
    shared(&sessions, &caller("bob", "h")).await;
    sessions.shut_down().await;
}
