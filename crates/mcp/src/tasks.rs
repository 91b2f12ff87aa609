//! Tasks: the calls whose results come later.
//!
//! Sources: 2025-11-25 §Tasks, `seps/2663-tasks-extension.md`.

use crate::message::Message;
use crate::tools::{NotAList, remove_elements};
use bytes::Bytes;
use json::Value;
use std::borrow::Cow;

/// The methods of a client's that speak of one task, by `params.taskId`.
pub const TASK_METHODS: &[&str] = &["tasks/get", "tasks/update", "tasks/cancel", "tasks/result"];

/// The extension that tasks are from 2026-07-28 on: whoever speaks of one declares it with each request.
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// The id of the task that a reply tells the client of in place of a result; `None` for any other reply.
pub fn created_task<'m>(reply: &'m Message) -> Option<Cow<'m, str>> {
    let result = reply.result()?;
    let flat = || result.get("resultType").and_then(Value::as_str).filter(|kind| kind == "task").and(result.get("taskId"));
    // Up to 2025-11-25 in a member of its own.
    let id = result.get("task").and_then(|task| task.get("taskId")).or_else(flat)?;
    id.as_str()
}

/// The ids of the tasks in the reply to a `tasks/list`.
pub fn listed_tasks(reply: &Message) -> impl Iterator<Item = String> {
    let tasks = reply.result().and_then(|result| result.get("tasks")?.elements()).into_iter().flatten();
    tasks.filter_map(|task| Some(task.get("taskId")?.as_str()?.into_owned()))
}

/// Takes the tasks that `keep` does not know out of the reply to a `tasks/list`, and those without an id. An error stays as
/// it is.
///
/// # Errors
/// [`NotAList`]: answer an error in its place.
pub fn filter_tasks(reply: &Message, mut keep: impl FnMut(&str) -> bool) -> Result<Bytes, NotAList> {
    let Some(result) = reply.result() else { return Ok(reply.text().clone()) };
    let Some(tasks) = result.get("tasks").filter(|tasks| tasks.elements().is_some()) else {
        return Err(NotAList::new("`tasks` is no array"));
    };
    let ids = tasks.elements().into_iter().flatten().map(|task| task.get("taskId").and_then(Value::as_str));
    let stays: Vec<bool> = ids.map(|id| id.is_some_and(|id| keep(&id))).collect();
    Ok(remove_elements(reply.edit(), tasks, &stays).finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Side;

    fn reply(result: &str) -> Message {
        Message::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#), Side::Server).unwrap()
    }

    #[test]
    fn a_task_is_created_in_two_spellings() {
        assert_eq!(created_task(&reply(r#"{"task":{"taskId":"a","status":"working"}}"#)).unwrap(), "a");
        assert_eq!(created_task(&reply(r#"{"resultType":"task","taskId":"b","status":"working"}"#)).unwrap(), "b");
        // What is told of a task that is there already creates none.
        assert_eq!(created_task(&reply(r#"{"resultType":"complete","taskId":"b","status":"working"}"#)), None);
        assert_eq!(created_task(&reply(r#"{"content":[]}"#)), None);
    }

    #[test]
    fn a_list_of_tasks_keeps_only_what_it_may() {
        let list = reply(r#"{"tasks":[{"taskId":"a"},{"taskId":"b", "x":1},{"y":2},{"taskId":"c"}],"nextCursor":""}"#);
        let text = filter_tasks(&list, |id| id != "a").unwrap();
        let expected = r#"{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":"b", "x":1},{"taskId":"c"}],"nextCursor":""}}"#;
        assert_eq!(text, expected);
        assert!(filter_tasks(&reply(r#"{"tasks":{}}"#), |_| true).is_err());
    }
}
