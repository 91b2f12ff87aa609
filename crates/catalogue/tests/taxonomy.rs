//! The rules of the taxonomy, each on the shortest definition that shows it.

use catalogue::{Level, RiskClass, Signal, ToolRisk};
use json::{Document, Strictness};
use serde_json::{Value, json};

fn grade(definition: &Value) -> ToolRisk {
    let document = Document::parse(definition.to_string(), Strictness::Reply).expect("what serde writes is JSON");
    catalogue::grade(document.root(), "acme")
}

fn tool(name: &str, description: &str, properties: Value) -> Value {
    json!({"name": name, "description": description, "inputSchema": {"type": "object", "properties": properties}})
}

#[track_caller]
fn is(expected: RiskClass, name: &str, description: &str, properties: Value) -> ToolRisk {
    let risk = grade(&tool(name, description, properties));
    assert_eq!(risk.class, expected, "{name}: {:#?}", risk.evidence);
    assert!(!risk.evidence.is_empty(), "{name} is not explained");
    risk
}

/// A definition of a name and a description.
#[track_caller]
fn all(expected: RiskClass, tools: &[(&str, &str)]) {
    for (name, description) in tools {
        is(expected, name, description, json!({}));
    }
}

#[test]
fn what_returns_information_reads() {
    all(
        RiskClass::Read,
        &[
            ("list_branches", "List branches of a repository."),
            ("git_branch", "List Git branches"),
            ("KendraQueryTool", "Query the index and retrieve content."),
            ("worker_get", "Get a worker by its name"),
            ("scene", "Facts about the scene as text."),
            ("runAudit", "Run an accessibility audit"),
            ("lint", "Lints a workflow and returns findings"),
            ("list_invoices", "List invoices of a customer"),
            ("post-search", "Search by title"),
            ("estimate_cost", "Estimate the cost of a deployment."),
            ("type", "Returns the type of the value stored at a key."),
        ],
    );
}

#[test]
fn what_a_further_call_can_put_back_writes() {
    all(
        RiskClass::Write,
        &[
            ("create_issue", "Create a new issue in a project"),
            ("update_task", "Update the fields of a task"),
            ("move_file", "Move or rename files."),
            ("connect_to_database", "Connect to a database and keep the connection for later calls"),
            ("CreateRunGroup", "Create a new run group, with limits for later runs."),
            ("create_cluster", "Create a database cluster"),
            ("add_comment", "Add a comment to an issue"),
            ("remove_tag", "Remove a tag from a resource"),
            ("remove_from_watchlist", "Remove an asset from a watchlist"),
            ("attach_policy", "Attach a policy to a user."),
            ("archive_channel", "Archives a channel"),
            ("draft_mail", "Create a draft of an email."),
            ("create_coupon", "Create a coupon for customers. It takes a currency and an amount of the payment to take off."),
            ("start_auth", "Start the authentication of an account"),
            ("find_and_replace", "Find text in a document and replace it"),
        ],
    );
}

#[test]
fn what_sets_something_going_executes() {
    all(
        RiskClass::Execute,
        &[
            ("StartRun", "Start a workflow run."),
            ("monitor_run", "Trigger a check immediately."),
            ("cancel_job", "Cancel a running job"),
            ("create_job", "Create a new job and start it"),
            ("create_schedule", "Create a schedule for a pipeline"),
            ("send_message", "Send a message to a channel"),
            ("publish", "Publish a message to a topic"),
            ("click", "Click an element on the page"),
            ("text_to_speech", "Convert text to spoken audio"),
            ("build_image", "Build an image from a Dockerfile"),
            ("apply_manifest", "Apply a manifest to the cluster"),
            ("install_package", "Install a package in the environment"),
        ],
    );
}

#[test]
fn what_no_call_brings_back_is_destructive() {
    all(
        RiskClass::Destructive,
        &[
            ("delete_issue", "Delete an issue."),
            ("worker_delete", "Delete a worker"),
            ("flush_cache", "Flush the cache"),
            ("lpop", "Removes and returns the first element of a list"),
            ("write_file", "Create a new file or completely overwrite an existing file with new content."),
            ("update_list", "Update a list. This replaces the entire list; those not given will be removed."),
            ("rotate_key", "Rotate the key of an account"),
            ("cache_touch", "Update the expiration time of a key"),
            ("terminate_instances", "Terminate instances and their volumes"),
        ],
    );
}

#[test]
fn what_moves_money_is_financial() {
    all(
        RiskClass::Financial,
        &[
            ("create_refund", "Refund a charge"),
            ("place_order", "Place an order for a stock with a broker."),
            ("finalize_invoice", "Finalize an invoice, so that the customer can pay it."),
            ("close_position", "Closes a position in a stock by placing a sell order."),
            ("pay", "Pay a bill from the wallet"),
        ],
    );
}

#[test]
fn a_router_is_as_bad_as_its_worst_operation() {
    let operation = |values: Value| json!({"operation": {"type": "string", "enum": values}});
    let risk = is(RiskClass::Destructive, "manage_tables", "Manage tables", operation(json!(["list", "create", "delete"])));
    assert!(risk.evidence.iter().any(|evidence| evidence.quote == "delete" && evidence.at == "inputSchema.properties.operation"));
    is(
        RiskClass::Read,
        "manage_catalog",
        "Manage the catalog with read operations",
        operation(json!(["get-table", "list-tables"])),
    );
    is(RiskClass::Execute, "rollout", "Manage the rollout of a resource", operation(json!(["status", "restart", "undo"])));
    let prose = "Manage volumes.\n\nOperations:\n- list-volumes: lists them\n- delete-volume: deletes one\n";
    is(RiskClass::Destructive, "manage_volumes", prose, json!({"operation": {"type": "string"}}));
    let hidden = "Storage operations. This tool is a hierarchical command router. Sub commands are routed to other servers.";
    is(
        RiskClass::Execute,
        "storage",
        hidden,
        json!({"intent": {}, "command": {"type": "string"}, "parameters": {}, "learn": {}}),
    );
}

#[test]
fn open_power_executes_and_a_contract_to_read_reads() {
    let sql = json!({"sql": {"type": "string", "description": "The SQL to run"}});
    is(RiskClass::Execute, "run_query", "Run a SQL query", sql.clone());
    assert_eq!(is(RiskClass::Read, "query", "Run a read-only SQL query", sql.clone()).confidence, 2);
    is(RiskClass::Execute, "run_query", "Execute SQL. Queries run in read-only mode by default.", sql);
    is(RiskClass::Read, "query_metrics", "Execute a PromQL query", json!({"query": {"type": "string"}}));
    let script = json!({"script": {"type": "string", "description": "JavaScript to evaluate"}});
    let risk = is(RiskClass::Execute, "evaluate", "Evaluate JavaScript in the page", script);
    assert_eq!((risk.level, risk.signals.contains(&Signal::Code)), (Level::Critical, true));
}

#[test]
fn flags_and_paths_count_at_their_worst() {
    let delete = json!({"id": {"type": "string"}, "delete_data": {"type": "boolean", "default": false}});
    is(RiskClass::Destructive, "drain_node", "Drain a node", delete);
    let path = json!({"id": {"type": "string"}, "output_path": {"type": "string", "description": "Where to save the image"}});
    is(RiskClass::Write, "take_screenshot", "Take a screenshot of the page", path);
    is(RiskClass::Read, "take_screenshot", "Take a screenshot of the page", json!({"full": {"type": "boolean"}}));
    is(
        RiskClass::Execute,
        "create_event",
        "Create an event in a calendar",
        json!({"attendees": {"type": "array", "items": {"type": "string"}}}),
    );
    is(RiskClass::Financial, "create_project", "Create a project.", json!({"confirm_cost_id": {"type": "string"}}));
}

#[test]
fn a_hint_never_lowers() {
    let mut definition = tool("delete_file", "Delete a file", json!({}));
    definition["annotations"] = json!({"readOnlyHint": true});
    let risk = grade(&definition);
    assert_eq!((risk.class, risk.confidence), (RiskClass::Destructive, 2));
    let mut definition = tool("list_files", "List files", json!({}));
    definition["annotations"] = json!({"destructiveHint": true});
    let risk = grade(&definition);
    assert_eq!((risk.class, risk.confidence), (RiskClass::Read, 2));
    // Nor does it decide what nothing else does.
    for (name, description) in [("zorp", "Zorps the quux."), ("zorp", ""), ("house_rules", "")] {
        let mut definition = tool(name, description, json!({}));
        definition["annotations"] = json!({"readOnlyHint": true});
        assert_eq!(grade(&definition).class, RiskClass::Execute, "{name}");
    }
}

#[test]
fn what_cannot_be_decided_is_no_read() {
    let doubtful = [
        ("frobnicate", ""),
        ("zorp", "Zorps the quux."),
        ("cosmos", "Work with accounts"),
        ("zorp", "Zorps all history data"),
        ("zorp", "Zorps history data"),
    ];
    for (name, description) in doubtful {
        let risk = is(RiskClass::Execute, name, description, json!({}));
        assert_eq!(risk.confidence, 1, "{name}");
    }
    all(RiskClass::Read, &[("weather", "Weather data for a city"), ("status", "The current status of a job")]);
    all(RiskClass::Destructive, &[("history", "Scrubs all history data")]);
}

#[test]
fn a_title_may_say_what_name_and_description_do_not() {
    for place in ["title", "annotations"] {
        let mut definition = tool("items", "Lists items.", json!({}));
        let title = "Delete all items";
        definition[place] = if place == "title" { json!(title) } else { json!({"title": title}) };
        assert_eq!(grade(&definition).class, RiskClass::Destructive, "{place}");
    }
}

#[test]
fn what_is_too_long_to_be_read_is_no_read() {
    let mut names: Vec<String> = (0..2_000).map(|number| format!("get_{number}")).collect();
    names.push("delete_all".into());
    is(RiskClass::Execute, "things", "Look at things.", json!({"operation": {"enum": names}}));
    let long = "Lists items. ".repeat(2_000) + "Deletes everything.";
    is(RiskClass::Execute, "list_items", &long, json!({}));
    let parameters: serde_json::Map<String, Value> = (0..2_000).map(|number| (format!("p{number}"), json!({}))).collect();
    is(RiskClass::Execute, "list_items", "Lists items.", Value::Object(parameters));
}

#[test]
fn a_result_that_is_said_to_hold_a_secret_holds_one() {
    let mut definition = tool("get_user", "Get a user", json!({}));
    definition["outputSchema"] =
        json!({"type": "object", "properties": {"user": {"properties": {"access_token": {"type": "string"}}}}});
    let risk = grade(&definition);
    assert!(risk.signals.contains(&Signal::ReturnsSecrets) && risk.level == Level::Medium, "{risk:?}");
}

#[test]
fn the_same_definition_is_graded_the_same_way() {
    let definition =
        tool("manage_x", "Manage things: create, list and delete them", json!({"action": {"enum": ["create", "delete"]}}));
    let (first, second) = (grade(&definition), grade(&definition));
    assert_eq!((first.class, first.evidence, first.signals), (second.class, second.evidence, second.signals));
}

#[test]
fn words_that_are_nouns_too_are_told_apart_by_what_follows() {
    all(
        RiskClass::Read,
        &[
            ("list_deploys", "List all deploys for a project."),
            ("search", "Perform a search. Highlights are always enabled."),
            ("commit_log", "Shows the commit log"),
        ],
    );
    all(
        RiskClass::Write,
        &[("log_workout", "Log a workout"), ("update_dispute", "When you get one, act. It takes the following arguments: id")],
    );
    all(RiskClass::Execute, &[("make_call", "Make an outbound call using an agent. Automatically detects the provider.")]);
    all(RiskClass::Financial, &[("checkout_cart", "Check out the shopping cart"), ("book_room", "Book a hotel room")]);
}

#[test]
fn the_end_of_a_name_may_say_what_is_done() {
    all(
        RiskClass::Read,
        &[
            ("deploy_plan_get", "Shows a plan."),
            ("deploy_app_help", "Help with deployments"),
            ("tunnel_command", "Generates a command to connect to a host."),
        ],
    );
    all(RiskClass::Destructive, &[("deploy_plan_delete", "Deletes a plan")]);
}

#[test]
fn what_is_taken_away_decides() {
    all(
        RiskClass::Write,
        &[
            ("unban_member", "Remove a ban, allowing the user to rejoin"),
            ("remove_role", "Remove a role from a server member"),
            ("resolve_support_case", "Resolve a support case."),
        ],
    );
    all(RiskClass::Destructive, &[("regenerate_key", "Regenerate the access key"), ("remove_role", "Remove a role")]);
}

#[test]
fn a_definition_that_denies_reading_is_believed() {
    let mut sorts = tool("sort_range", "Sort the rows of a range.", json!({}));
    assert_eq!(grade(&sorts).class, RiskClass::Read);
    sorts["annotations"] = json!({"readOnlyHint": false});
    assert_eq!((grade(&sorts).class, grade(&sorts).confidence), (RiskClass::Write, 1));
}

#[test]
fn what_is_asked_about_is_not_done() {
    let operation = json!({"operation": {"type": "string", "enum": ["read", "update", "delete"]}});
    is(RiskClass::Read, "check_permissions", "Check whether a user can perform an operation on a page.", operation.clone());
    is(RiskClass::Destructive, "page", "Perform an operation on a page.", operation);
}

#[test]
fn signals_look_at_what_stands_beside_an_argument() {
    let path = json!({"path": {"type": "string", "description": "The file"}});
    assert!(is(RiskClass::Read, "get_file", "Get a file.", path).signals.contains(&Signal::Path));
    let remote = json!({"path": {"type": "string", "description": "The file"}, "branch": {"type": "string"}});
    assert!(!is(RiskClass::Read, "get_file", "Get a file.", remote).signals.contains(&Signal::Path));
    let travel = json!({"profile": {"type": "string", "description": "Travel profile: driving or walking"}});
    assert!(!is(RiskClass::Read, "get_route", "Get a route.", travel).signals.contains(&Signal::CredentialSelector));
    let handed = json!({"plan_token": {"type": "string", "description": "Token from plan()"}});
    assert!(!is(RiskClass::Read, "get_plan", "Get a plan.", handed).signals.contains(&Signal::CredentialSelector));
}

#[test]
fn verbs_are_told_by_what_they_are_done_to() {
    all(
        RiskClass::Write,
        &[
            ("archive_card", "Send a card to the archive of a board"),
            ("login", "Log in to the shop with a username and a password."),
            ("git_cherry_pick", "Cherry-pick commits from other branches."),
            ("update_custom_field", "Set or clear a custom field value on a card."),
            ("clear_working_dir", "Clear the session working directory setting."),
            ("remove_issue_from_release", "Remove an issue from a release"),
            ("apply_style", "Apply paragraph formatting to a text."),
            ("crear_tarea", "Crea una tarea nueva"),
        ],
    );
    all(
        RiskClass::Execute,
        &[
            ("terminate_app", "Stop and terminate an app on the device"),
            ("pg_upgrade", "Upgrade the database cluster to a newer version"),
            ("kickoff_build", "Kick off a build"),
        ],
    );
    all(RiskClass::Destructive, &[("eliminar_contacto", "Elimina un contacto")]);
    all(
        RiskClass::Read,
        &[("union_tool", "Merge two or more polygons into one"), ("obtener_contactos", "Obtiene los contactos")],
    );
}

#[test]
fn a_sentence_about_deleting_deletes_nothing() {
    is(RiskClass::Read, "ask_helper", "Answers questions about a project. Deletes are refused outright.", json!({}));
    let mode = json!({"mode": {"type": "string", "enum": ["soft", "mixed", "hard"]}});
    is(RiskClass::Destructive, "git_reset", "Reset the current branch to a commit.", mode);
    let mut releases = tool("release_device", "Release a device. Apps and files on it are lost.", json!({}));
    assert_eq!(grade(&releases).class, RiskClass::Write);
    releases["annotations"] = json!({"destructiveHint": true});
    assert_eq!(grade(&releases).class, RiskClass::Destructive);
}

#[test]
fn open_power_is_no_less_for_what_it_refuses() {
    let query = json!({"query": {"type": "string"}});
    is(RiskClass::Execute, "api_write", "Execute GraphQL mutations. Only mutations are accepted.", query.clone());
    is(RiskClass::Read, "api_read", "Execute a GraphQL query. Mutations are rejected.", query);
    is(RiskClass::Execute, "pg_psql", "Execute SQL queries: analyze, modify schema.", json!({"command": {"type": "string"}}));
}

#[test]
fn arguments_that_the_text_describes_count_as_described() {
    let described = "Create a job.\n\nArgs:\n    name: Its name\n    command (str): Shell command to run";
    let risk =
        is(RiskClass::Execute, "create_cron_job", described, json!({"name": {"type": "string"}, "command": {"type": "string"}}));
    assert!(risk.signals.contains(&Signal::Shell), "{:?}", risk.signals);
    assert_eq!(risk.level, Level::Critical);
}

#[test]
fn a_tenant_stands_above_what_the_tool_is_about() {
    let takes = |name: &str, argument: &str| {
        let risk = grade(&tool(name, "Get it.", json!({argument: {"type": "string"}})));
        risk.signals.contains(&Signal::TenantSelector)
    };
    assert!(takes("get_tags_for_workspace", "workspace_gid") && takes("list_projects", "organizationSlug"));
    assert!(takes("get_registry", "ecr_account_id") && takes("get_issue", "repo_owner"));
    assert!(!takes("get_workspace", "workspace_id") && !takes("read_messages", "subscription_id"));
    assert!(!takes("list_transactions", "bankAccountId"));
}

#[test]
fn secrets_are_returned_where_the_definition_says_so() {
    let returns =
        |name: &str, description: &str| grade(&tool(name, description, json!({}))).signals.contains(&Signal::ReturnsSecrets);
    assert!(returns("get_config", "Get the current configuration content as a kubeconfig YAML"));
    assert!(returns("create_api_key", "Create a key for a project") && returns("get_secret", "Get the value of a secret"));
    assert!(returns("rotate_webhook_secret", "Rotate the secret. The new one is in the result."));
    assert!(
        !returns("list_users", "List the users, with your API key") && !returns("get_provider", "Get metadata for an API key.")
    );
    assert!(!returns("get_token_price", "Get the price of a token") && !returns("list_secrets", "List secret names only"));
    let kinds = json!({"resourceType": {"type": "string", "description": "pods, services, configmaps, secrets"}});
    assert!(grade(&tool("kubectl_get", "Get resources by type", kinds)).signals.contains(&Signal::ReturnsSecrets));
}

#[test]
fn what_is_put_into_effect_is_code_and_what_is_stored_is_not() {
    let code = |name: &str, description: &str, argument: &str, said: &str| {
        let risk = grade(&tool(name, description, json!({argument: {"type": "string", "description": said}})));
        risk.signals.contains(&Signal::Code)
    };
    assert!(code("apply_resource", "Apply a resource to the cluster.", "resource", "The manifest, as YAML"));
    assert!(code("run_oneoff", "Run a function.", "query", "JavaScript source that returns a value"));
    assert!(code("run_snippet", "Run it.", "code", "Code to run"));
    assert!(!code("create_page", "Create a page.", "body", "The text"));
    assert!(!code("check_types", "Check a module for mistakes.", "code", "TypeScript code to look at"));
}

#[test]
fn a_choice_among_operations_is_as_bad_as_the_worst_of_them() {
    let one_of = |operations: &[&str]| {
        let all: Vec<Value> =
            operations.iter().map(|name| json!({"type": "object", "properties": {"operation": {"const": name}}})).collect();
        json!({"selected": {"anyOf": all}})
    };
    let says = "Select and run one of the following operations";
    is(RiskClass::Read, "deploy-services-reader", says, one_of(&["get-deploy", "get-deploy-for-site"]));
    is(RiskClass::Destructive, "site-services-updater", says, one_of(&["update-site", "delete-site"]));
    is(RiskClass::Execute, "deploy-services-updater", says, one_of(&["deploy-site"]));
}

#[test]
fn a_payment_by_its_noun_is_one() {
    is(
        RiskClass::Financial,
        "auth",
        "Two-step payment. Funds are held until the payment is confirmed.",
        json!({"Currency": {"type": "string"}}),
    );
    all(RiskClass::Financial, &[("void_payment", "Void an authorized payment and release the held funds to the card.")]);
}

#[test]
fn a_request_of_any_kind_and_whoever_acts_by_himself_execute() {
    let url = json!({"url": {"type": "string"}});
    is(RiskClass::Execute, "http_put", "Perform an HTTP PUT request", url.clone());
    is(RiskClass::Read, "http_get", "Perform an HTTP GET request", url);
    let task = json!({"task": {"type": "string"}});
    is(RiskClass::Execute, "use_agent", "Uses a model to autonomously execute tasks in a browser.", task);
    let manifest = json!({"resource": {"type": "string", "description": "A Kubernetes resource, as YAML"}});
    is(RiskClass::Execute, "resources_create_or_update", "Create or update a Kubernetes resource.", manifest);
}

#[test]
fn what_changes_somebody_who_reads_is_no_reading() {
    all(RiskClass::Write, &[("add_viewer", "")]);
    let manage = json!({"action": {"type": "string", "enum": ["list_access", "add_reader", "remove_reader"]}});
    let risk = grade(&tool("manage_access", "Manage access to a board.", manage));
    assert_ne!(risk.class, RiskClass::Read, "{:#?}", risk.evidence);
    assert_ne!(grade(&tool("remove_viewer", "", json!({}))).class, RiskClass::Read);
}

#[test]
fn operations_that_nobody_understands_are_in_doubt() {
    let all: Vec<Value> = ["get", "list", "zap", "expedite_all", "ship"]
        .iter()
        .map(|name| json!({"type": "object", "properties": {"operation": {"const": name}}}))
        .collect();
    is(RiskClass::Execute, "orders", "Manage orders.", json!({"request": {"anyOf": all}}));
    let listed = |names: &[&str]| json!({"operation": {"type": "string", "enum": names}});
    is(RiskClass::Execute, "orders", "Manage orders.", listed(&["get", "list", "zorp", "expedite_all"]));
    is(RiskClass::Destructive, "orders", "Manage orders.", listed(&["GET_ORDER", "DELETE_ORDER"]));
    // Where some are refused, so are these.
    let risk = is(RiskClass::Destructive, "orders", "Manage orders.", listed(&["get", "list", "zorp", "delete"]));
    let avoidable = risk.avoidable.expect("an argument decides");
    assert_eq!((avoidable.arguments[0].values.join(" "), avoidable.otherwise), ("delete zorp".into(), RiskClass::Read));
}

#[test]
fn a_flag_that_deletes_is_not_about_what_is_shown() {
    let flag = |name: &str, says: &str| json!({name: {"type": "boolean", "description": says}});
    let once_shown = flag("delete_after", "Delete the message once it was shown");
    is(RiskClass::Destructive, "get_message", "Get a message.", once_shown);
    is(RiskClass::Write, "get_message", "Get a message.", flag("mark_read", "Mark as read once displayed"));
    is(RiskClass::Read, "get_page", "Get a page.", flag("tags", "Whether tags appear; what is displayed is text"));
    is(RiskClass::Read, "get_page", "Get a page.", flag("truncate", "Whether long text is cut"));
    all(RiskClass::Destructive, &[("merge_branch", "Merge the branch. This deletes the source branch unless keep is set.")]);
}

#[test]
fn what_is_sent_to_somebody_is_delivered() {
    all(RiskClass::Execute, &[("send_note", "Send a message to the front desk.")]);
    all(RiskClass::Execute, &[("apply_rule", "Apply a firewall rule.")]);
}

#[test]
fn a_verb_in_a_name_counts_where_it_is_one() {
    all(
        RiskClass::Read,
        &[
            ("repo_pull_request_thread", "Retrieve pull request thread and comment data."),
            ("pipelines_build", "Retrieve build data for a project."),
            ("VoiceApiV2--ListMessage", "Voice - Api: This is the public REST API. Retrieve a list of messages"),
            ("get_plan", "Creates a migration plan for an application."),
        ],
    );
    all(
        RiskClass::Write,
        &[
            ("update_credential_list", ""),
            ("lb-remove-servers", "Remove servers from a load balancer"),
            ("unapprove_merge_request", "Unapprove a merge request"),
        ],
    );
    all(RiskClass::Execute, &[("build_and_push_image", "Creates what the image needs"), ("make_api_request", "Unified tool")]);
    all(
        RiskClass::Destructive,
        &[("join_token", "Display or rotate the token"), ("hooks_unsubscribe", "Unsubscribe from a webhook")],
    );
}

#[test]
fn what_is_done_to_an_answer_is_told_from_what_is_done_to_things() {
    all(
        RiskClass::Read,
        &[
            ("links", "Extract and categorize all links of a page"),
            ("users_login_history", "Login history for a specific user."),
            ("cb_index_advisor", ""),
            ("usage", "The account's current usage."),
            ("make_csv", "Build a CSV from contacts"),
            ("wait_for_turn", "Block until it is your turn"),
            ("find_company", "Resolve a company to its domain"),
        ],
    );
    all(
        RiskClass::Write,
        &[
            ("format_cells", "Format cells in a spreadsheet"),
            ("convert_pdf", "Convert a PDF in the drive into an editable doc"),
            ("add_group", "Group a range of rows in a sheet"),
            ("show_dimension", "Show (unhide) a range of columns"),
            ("snapshot-server", "Take a snapshot of a server"),
            ("cart_remove", "Remove a cart line"),
            ("unblock_ip", "Remove an address from the monitor's blocks."),
            ("optimize_table", "Optimize a table"),
            ("create_campaign", "Create a new campaign"),
            ("set_members", "Change who belongs to it: an incremental add/remove of members"),
        ],
    );
    all(
        RiskClass::Execute,
        &[
            ("watch", "Watch the sources and auto-rebuild on changes"),
            ("update_recording", "Changes the status of the recording to paused or stopped."),
            ("backup_now", "Kick a backup now."),
            ("generate_scenarios", "Generate scenarios from a goal. Generation is asynchronous."),
        ],
    );
    all(RiskClass::Destructive, &[("clear_failed", "Drain the dead-letter queue.")]);
    is(RiskClass::Destructive, "reindex", "Rebuild the index.", json!({"clear_existing": {"type": "boolean"}}));
    is(RiskClass::Destructive, "process", "Process images", json!({"removePrevImages": {"type": "boolean"}}));
    // A part that leaves a list is none that is deleted.
    let action = json!({"type": "string", "enum": ["add", "remove"]});
    let links = json!({"link": {"type": "array", "items": {"type": "object", "properties": {"action": action}}}});
    is(RiskClass::Write, "tests_create", "Create a test", links);
    // An operation that is only told of is not done.
    let method = json!({"method": {"type": "string", "description": "The method (e.g. 'list', 'create')"}});
    is(RiskClass::Read, "get_type_info", "Get type information for a method.", method);
}

#[test]
fn secrets_come_back_where_an_argument_can_ask_for_them() {
    let returns = |name: &str, description: &str, properties: Value| {
        grade(&tool(name, description, properties)).signals.contains(&Signal::ReturnsSecrets)
    };
    let text = || json!({"type": "string"});
    assert!(returns("kubectl_get", "Get Kubernetes resources", json!({"resourceType": text()})));
    assert!(!returns("kubectl_describe", "Describe Kubernetes resources", json!({"resourceType": text()})));
    assert!(returns("get_connection", "Get a connection", json!({"hide_password": {"type": "boolean"}})));
    assert!(returns("exchange_token", "Exchange a public token for an access token", json!({"token": text()})));
    assert!(!returns("create_access_key", "Create a new access key. The SecretAccessKey is redacted.", json!({"user": text()})));
}

#[test]
fn a_cheerful_word_makes_no_read_of_a_change() {
    for (name, description) in [
        ("prepare_database", "Drops and recreates all tables. It does not execute migrations."),
        ("delete_plan", "Deletes a plan. Nothing is sent to anybody."),
        ("find_and_redact_messages", "Finds and redacts sensitive messages in a channel."),
        ("scan_and_organize_files", "Scans and organizes files."),
        ("find_and_label_issues", "Finds and labels issues."),
        ("create_snippet", "Returns the created snippet."),
        ("create_plan", "Returns the id of the created plan."),
        ("delete__user_info", ""),
        ("wipe_device__id__status_post", ""),
        ("search_history", "Clear history of searches."),
        ("statistics", "Reset statistics of the server."),
        ("enrich_contacts", "Enrich contacts in the CRM."),
        ("build_project", "Returns the URL of the new build."),
        ("drop_table", "Returns true on success."),
        ("wipe_device", "Returns true on success."),
        ("drop_validator", ""),
        ("run_analyzer", ""),
        ("deploy_validator", ""),
        ("stop_checker", ""),
        ("block_for_abuse", ""),
    ] {
        let risk = grade(&tool(name, description, json!({})));
        assert_ne!(risk.class, RiskClass::Read, "{name}: {:#?}", risk.evidence);
    }
    let listed = |name: &str, values: Value| json!({name: {"type": "array", "items": {"type": "object", "properties": {"action": {"type": "string", "enum": values}}}}});
    is(RiskClass::Write, "review_members", "Reviews the members.", listed("members", json!(["get", "remove"])));
    is(RiskClass::Destructive, "save", "Saves files.", listed("files", json!(["write", "remove"])));
    let odd = json!({"operation": {"type": "string", "enum": ["list", "create", "zorp"]}});
    is(RiskClass::Execute, "orders", "Manage orders.", odd);
}
