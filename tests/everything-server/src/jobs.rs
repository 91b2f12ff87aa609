//! The tools that run as tasks (`io.modelcontextprotocol/tasks`).

use std::time::Duration;

use rmcp::model::{CallToolResult, ContentBlock, ErrorData, JsonObject};
use rmcp::task_manager::{TaskContext, TaskExit, TaskFuture};
use serde_json::{Value, json};

use crate::asking;

/// The work of a tool of this name, if it is one that runs as a task.
pub fn work(name: &str, arguments: &JsonObject) -> Option<Box<dyn FnOnce(TaskContext) -> TaskFuture + Send>> {
    let arguments = arguments.clone();
    Some(match name {
        "slow_compute" => Box::new(move |task| Box::pin(async move { compute(&arguments, Some(task)).await })),
        "failing_job" => Box::new(|_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(CallToolResult::error(vec![ContentBlock::text("the job failed, as it always does")]))
            })
        }),
        "protocol_error_job" => Box::new(|_| {
            Box::pin(async { Err(TaskExit::Error(ErrorData::internal_error("the job broke, as it always does", None))) })
        }),
        "confirm_delete" => Box::new(move |task| Box::pin(confirm(task, arguments))),
        "multi_input" => Box::new(|task| Box::pin(two_questions(task))),
        _ => return None,
    })
}

/// Sleeps for `seconds`, or until the task is cancelled.
///
/// # Errors
/// When the task is cancelled.
pub async fn compute(arguments: &JsonObject, task: Option<TaskContext>) -> Result<CallToolResult, TaskExit> {
    let seconds = arguments.get("seconds").and_then(Value::as_f64).unwrap_or(0.0).clamp(0.0, 3600.0);
    let label = arguments.get("label").and_then(Value::as_str).unwrap_or("unnamed").to_owned();
    let sleep = tokio::time::sleep(Duration::from_secs_f64(seconds));
    match task {
        Some(task) => tokio::select! {
            () = task.cancelled() => return Err(TaskExit::Cancelled),
            () = sleep => {}
        },
        None => sleep.await,
    }
    Ok(CallToolResult::success(vec![ContentBlock::text(format!("{label}: computed for {seconds} s"))]))
}

async fn confirm(task: TaskContext, arguments: JsonObject) -> Result<CallToolResult, TaskExit> {
    let file = arguments.get("filename").and_then(Value::as_str).unwrap_or("the file");
    let question = asking::elicit(&format!("Delete {file}?"), json!({"confirm": {"type": "boolean"}}), json!(["confirm"]));
    let answer = task.request_input("confirm", question).await?;
    let word = if answer["action"] == "accept" { "deleted" } else { "kept" };
    Ok(CallToolResult::success(vec![ContentBlock::text(format!("{file} {word}"))]))
}

async fn two_questions(task: TaskContext) -> Result<CallToolResult, TaskExit> {
    let question = |what: &str| asking::elicit(what, json!({"value": {"type": "string"}}), json!(["value"]));
    let (first, second) =
        tokio::join!(task.request_input("first", question("First?")), task.request_input("second", question("Second?")));
    let text = format!("first: {}, second: {}", first?["content"], second?["content"]);
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]))
}

/// Greets, as the end of a task that began with a question.
pub fn greeting(name: String) -> impl FnOnce(TaskContext) -> TaskFuture {
    move |_| Box::pin(async move { Ok(CallToolResult::success(vec![ContentBlock::text(format!("Hello, {name}!"))])) })
}
