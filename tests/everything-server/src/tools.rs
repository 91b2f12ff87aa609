//! What each tool does.

use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult, ErrorData,
    JsonObject, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam, SealOptions,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskExit, TaskOptions};
use serde_json::{Value, json};

use crate::asking::{self, Asked, Questions};
use crate::catalogue::{AUDIO, IMAGE};
use crate::jobs;
use crate::shared::{Change, Shared};

/// One call of a tool.
struct Call<'c> {
    shared: &'c Shared,
    name: String,
    arguments: JsonObject,
    brought: Option<rmcp::model::InputResponses>,
    state: Option<String>,
    context: RequestContext<RoleServer>,
}

type Reply = Result<CallToolResponse, ErrorData>;

/// Runs a tool.
///
/// # Errors
/// When there is no such tool, or it refuses the call; what goes wrong inside a tool is a result.
pub async fn call(shared: &Shared, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Reply {
    let call = Call {
        shared,
        name: request.name.into_owned(),
        arguments: request.arguments.unwrap_or_default(),
        brought: request.input_responses,
        state: request.request_state,
        context,
    };
    if let Some(reply) = call.plain() {
        return reply;
    }
    match call.name.as_str() {
        "test_tool_with_logging" => call.logging().await,
        "test_logging_tool" => call.one_log().await,
        "test_tool_with_progress" => call.progress().await,
        "test_reconnection" => {
            // Longer than anybody between waits before a stream is begun.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            text("Reconnection test completed")
        }
        "test_streaming_elicitation" => {
            call.report(50.0, "Half of it").await;
            let question = asking::elicit("Shall I go on?", json!({"ok": {"type": "boolean"}}), json!(["ok"]));
            call.ask_once("go_on", question, |answer| format!("You said {}", answer["action"])).await
        }
        name if name.starts_with("test_input_required_result_") => call.input_required().await,
        name if name.starts_with("test_elicitation") || name == "test_sampling" => call.asking().await,
        "test_tool_with_task" => call.question_then_task().await,
        _ => call.job().await,
    }
}

impl Call<'_> {
    /// The tools that answer at once.
    fn plain(&self) -> Option<Reply> {
        Some(match self.name.as_str() {
            "test_simple_text" => text("This is a simple text response for testing."),
            "test_custom_header" => text(&format!("region: {}", self.argument("region", "nowhere"))),
            "json_schema_2020_12_tool" => text("The schema is what matters here."),
            "greet" => text(&format!("Hello, {}!", self.argument("name", "World"))),
            "test_image_content" => content(json!([image()])),
            "test_audio_content" => content(json!([{"type": "audio", "data": AUDIO, "mimeType": "audio/wav"}])),
            "test_embedded_resource" => content(json!([{"type": "resource", "resource": {
                "uri": "test://embedded-resource", "mimeType": "text/plain", "text": "This is an embedded resource content."}}])),
            "test_multiple_content_types" => content(json!([
                {"type": "text", "text": "Multiple content types test:"},
                image(),
                {"type": "resource", "resource": {"uri": "test://mixed-content-resource", "mimeType": "application/json",
                    "text": r#"{"test":"data","value":123}"#}},
            ])),
            "test_error_handling" => {
                Ok(CallToolResult::error(vec![ContentBlock::text("This tool intentionally returns an error for testing")]).into())
            }
            "test_missing_capability" if self.can(|client| client.sampling.is_some()) => text("The client samples."),
            "test_missing_capability" => {
                Err(ErrorData::missing_required_client_capability(capabilities(json!({"sampling": {}}))))
            }
            "test_trigger_tool_change" => self.announce(Change::Tools),
            "test_trigger_prompt_change" => self.announce(Change::Prompts),
            _ => return None,
        })
    }

    fn announce(&self, change: Change) -> Reply {
        // Nobody listens: nobody is told.
        let _ = self.shared.changes.send(change);
        text("All listeners are told.")
    }

    fn argument<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        self.arguments.get(name).and_then(Value::as_str).unwrap_or(otherwise)
    }

    fn can(&self, capability: impl Fn(&ClientCapabilities) -> bool) -> bool {
        self.context.client_capabilities().is_some_and(|client| capability(&client))
    }

    async fn logging(&self) -> Reply {
        for message in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
            self.log(message).await;
            pause().await;
        }
        text("Logging test completed")
    }

    async fn one_log(&self) -> Reply {
        self.log("This line was asked for").await;
        text("Logged, if that was asked for")
    }

    /// A modern client asks for logs with each request, a legacy one gets them unless it said otherwise.
    async fn log(&self, message: &str) {
        if asking::is_modern(&self.context) && self.context.meta.log_level().is_none() {
            return;
        }
        let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(message)).with_logger("everything-server");
        // A client that is gone has no use for logs.
        let _ = self.context.peer.notify_logging_message(line).await;
    }

    async fn progress(&self) -> Reply {
        for (number, (progress, message)) in [(0.0, "Starting"), (50.0, "Halfway"), (100.0, "Complete")].into_iter().enumerate() {
            if number > 0 {
                pause().await;
            }
            self.report(progress, message).await;
        }
        text("Progress test completed")
    }

    async fn report(&self, progress: f64, message: &str) {
        if let Some(token) = self.context.meta.get_progress_token() {
            let report = ProgressNotificationParam::new(token, progress).with_total(100.0).with_message(message);
            let _ = self.context.peer.notify_progress(report).await;
        }
    }

    /// The tools of the legacy suite that ask; what a client refuses is a result.
    async fn asking(&self) -> Reply {
        let nothing = json!([]);
        let (question, said) = match self.name.as_str() {
            "test_sampling" => (asking::sample(self.argument("prompt", "Hello"), 100), "LLM response"),
            "test_elicitation" => {
                let form = json!({"username": {"type": "string", "description": "User's response"},
                    "email": {"type": "string", "description": "User's email address"}});
                (asking::elicit(self.argument("message", "Who are you?"), form, json!(["username", "email"])), "User response")
            }
            "test_elicitation_sep1034_defaults" => {
                (asking::elicit("All of these have defaults", defaults(), nothing), "Elicitation completed")
            }
            "test_elicitation_sep1330_enums" => (asking::elicit("Choose", choices(), nothing), "Elicitation completed"),
            _ => return self.unknown(),
        };
        let is_sampling = self.name == "test_sampling";
        let reply = self
            .ask_once("answer", question, |answer| match is_sampling {
                true => format!("{said}: {}", answer["content"]["text"].as_str().unwrap_or("nothing")),
                false => format!("{said}: action={}, content={}", answer["action"].as_str().unwrap_or("none"), answer["content"]),
            })
            .await;
        reply.or_else(|refusal| Ok(CallToolResult::error(vec![ContentBlock::text(refusal.message)]).into()))
    }

    async fn ask_once(&self, key: &str, question: rmcp::model::InputRequest, tell: impl Fn(&Value) -> String) -> Reply {
        let questions = Questions::from([(key.to_owned(), question)]);
        match asking::ask(questions, self.brought.as_ref(), None, &self.context).await? {
            Asked::Answered(answers) => text(&tell(&answers[key])),
            Asked::Again(again) => Ok(again.into()),
        }
    }

    /// The tools of the modern suite that ask, and keep their place in a sealed state.
    async fn input_required(&self) -> Reply {
        let confirm = || asking::elicit("Please confirm", json!({"ok": {"type": "boolean"}}), json!(["ok"]));
        let name = || asking::elicit("What is your name?", json!({"name": {"type": "string"}}), json!(["name"]));
        let one = |key: &str, question| Questions::from([(key.to_owned(), question)]);
        let (questions, state) = match self.name.trim_start_matches("test_input_required_result_") {
            "elicitation" => (one("user_name", name()), None),
            "sampling" => (one("capital_question", asking::sample("What is the capital of France?", 100)), None),
            "list_roots" => (one("client_roots", asking::roots()), None),
            "request_state" | "tampered_state" => (one("confirm", confirm()), Some("confirm")),
            "multiple_inputs" => {
                let mut all = one("user_name", name());
                all.insert("greeting".to_owned(), asking::sample("Generate a greeting", 50));
                all.insert("client_roots".to_owned(), asking::roots());
                (all, Some("all"))
            }
            "multi_round" => return self.two_rounds().await,
            "capabilities" => (self.what_the_client_can(), None),
            _ => return self.unknown(),
        };
        if let Some(expected) = state {
            self.check_state(expected)?;
        }
        let sealed = state.map(|state| self.seal(state));
        match asking::ask(questions, self.brought.as_ref(), sealed, &self.context).await? {
            Asked::Again(again) => Ok(again.into()),
            Asked::Answered(answers) => text(&match self.name.trim_start_matches("test_input_required_result_") {
                "elicitation" => format!("Hello, {}!", answers["user_name"]["content"]["name"].as_str().unwrap_or("you")),
                "request_state" | "tampered_state" => "state-ok".to_owned(),
                _ => format!("Answered: {}", json!(answers)),
            }),
        }
    }

    fn what_the_client_can(&self) -> Questions {
        let mut questions = Questions::new();
        if self.can(|client| client.sampling.is_some()) {
            questions.insert("greeting".to_owned(), asking::sample("Generate a greeting", 50));
        }
        if self.can(|client| client.elicitation.is_some()) {
            let form = json!({"name": {"type": "string"}});
            questions.insert("user_name".to_owned(), asking::elicit("What is your name?", form, json!(["name"])));
        }
        questions
    }

    async fn two_rounds(&self) -> Reply {
        let first = asking::elicit("Step 1: What is your name?", json!({"name": {"type": "string"}}), json!(["name"]));
        let second =
            asking::elicit("Step 2: What is your favorite color?", json!({"color": {"type": "string"}}), json!(["color"]));
        let one = |key: &str, question| Questions::from([(key.to_owned(), question)]);
        // Where the client is in this dance is in the state alone: the server remembers nothing.
        let mut round = self.state.as_deref().map(|state| self.open(state)).transpose()?.unwrap_or_default();
        if round != "2" {
            let sealed = self.seal(if round == "1" && self.answers("step1") { "2" } else { "1" });
            match asking::ask(one("step1", first), self.brought.as_ref(), Some(sealed), &self.context).await? {
                Asked::Again(again) => return Ok(again.into()),
                Asked::Answered(_) => round = "2".to_owned(),
            }
        }
        match asking::ask(one("step2", second), self.brought.as_ref(), Some(self.seal(&round)), &self.context).await? {
            Asked::Again(again) => Ok(again.into()),
            Asked::Answered(answers) => {
                text(&format!("Your color is {}", answers["step2"]["content"]["color"].as_str().unwrap_or("none")))
            }
        }
    }

    fn answers(&self, key: &str) -> bool {
        self.brought.as_ref().is_some_and(|brought| brought.contains_key(key))
    }

    fn seal(&self, state: &str) -> String {
        self.shared.states.seal_with(state.as_bytes(), &SealOptions::new().associated_data(self.name.as_bytes()))
    }

    fn open(&self, state: &str) -> Result<String, ErrorData> {
        let opened = self.shared.states.open_with(state, self.name.as_bytes());
        let opened = opened.map_err(|error| ErrorData::invalid_params(format!("requestState: {error}"), None))?;
        Ok(String::from_utf8_lossy(&opened).into_owned())
    }

    /// A state that is brought must be ours; where answers come, there must be one.
    fn check_state(&self, expected: &str) -> Result<(), ErrorData> {
        match &self.state {
            Some(state) if self.open(state)? == expected => Ok(()),
            Some(_) => Err(ErrorData::invalid_params("requestState is of another step", None)),
            None if self.brought.is_some() => Err(ErrorData::invalid_params("requestState is missing", None)),
            None => Ok(()),
        }
    }

    /// The tools that run as tasks, or in line for a client that cannot follow one.
    async fn job(&self) -> Reply {
        let Some(work) = jobs::work(&self.name, &self.arguments) else { return self.unknown() };
        if self.can(ClientCapabilities::supports_tasks) {
            return Ok(self.task(work));
        }
        match self.name.as_str() {
            "slow_compute" => match jobs::compute(&self.at_once(), None).await {
                Ok(result) => Ok(result.into()),
                Err(TaskExit::Error(error)) => Err(error),
                Err(TaskExit::Cancelled) => Err(ErrorData::internal_error("cancelled", None)),
            },
            _ => Err(ErrorData::missing_required_client_capability(ClientCapabilities::builder().enable_tasks().build())),
        }
    }

    /// The arguments of work that the client has to wait for. A legacy client is not made to wait for long: it could not
    /// have asked for a task.
    fn at_once(&self) -> JsonObject {
        let mut arguments = self.arguments.clone();
        let seconds = arguments.get("seconds").and_then(Value::as_f64).unwrap_or_default();
        if !asking::is_modern(&self.context) {
            arguments.insert("seconds".to_owned(), json!(seconds.min(1.0)));
        }
        arguments
    }

    async fn question_then_task(&self) -> Reply {
        if !self.can(ClientCapabilities::supports_tasks) {
            let required = ClientCapabilities::builder().enable_tasks().build();
            return Err(ErrorData::missing_required_client_capability(required));
        }
        let question = asking::elicit("What is your name?", json!({"name": {"type": "string"}}), json!(["name"]));
        let questions = Questions::from([("user_name".to_owned(), question)]);
        match asking::ask(questions, self.brought.as_ref(), None, &self.context).await? {
            Asked::Again(again) => Ok(again.into()),
            Asked::Answered(answers) => {
                let content = &answers["user_name"]["content"];
                let name = content["name"].as_str().or(content["user_name"].as_str()).unwrap_or("nobody").to_owned();
                Ok(self.task(jobs::greeting(name)))
            }
        }
    }

    fn task(&self, work: impl FnOnce(rmcp::task_manager::TaskContext) -> rmcp::task_manager::TaskFuture) -> CallToolResponse {
        let options = TaskOptions::new().with_poll_interval_ms(100);
        CreateTaskResult::new(self.shared.tasks.spawn(options, work)).into()
    }

    fn unknown(&self) -> Reply {
        Err(ErrorData::invalid_params(format!("Unknown tool: {}", self.name), None))
    }
}

fn text(text: &str) -> Reply {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

fn content(blocks: Value) -> Reply {
    let blocks = serde_json::from_value(blocks).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    Ok(CallToolResult::success(blocks).into())
}

fn image() -> Value {
    json!({"type": "image", "data": IMAGE, "mimeType": "image/png"})
}

fn capabilities(named: Value) -> ClientCapabilities {
    serde_json::from_value(named).unwrap_or_default()
}

/// A default for each kind of value (SEP-1034).
fn defaults() -> Value {
    json!({
        "name": {"type": "string", "description": "User's name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User's age", "default": 30},
        "score": {"type": "number", "description": "User's score", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "description": "Whether the user is verified", "default": true},
    })
}

/// Each form of choice (SEP-1330).
fn choices() -> Value {
    let titled = |titles: [&str; 3]| -> Vec<Value> {
        let numbered = titles.iter().enumerate();
        numbered.map(|(number, title)| json!({"const": format!("value{}", number + 1), "title": title})).collect()
    };
    json!({
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": titled(["First Option", "Second Option", "Third Option"])},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled(["First Choice", "Second Choice", "Third Choice"])}},
    })
}

/// After a notice, so that it comes alone: a client that gets it together with the result may forget it over that.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
