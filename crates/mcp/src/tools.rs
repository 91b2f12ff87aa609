//! `tools/list` and `prompts/list`: a view of them, and the filter.
//!
//! A list is filtered by taking elements out of its text, with their commas: `_meta`, `nextCursor` (also `""`, which is a
//! cursor), the order and every unknown member stay byte for byte. A list that cannot be understood is an error, for passing
//! it unfiltered would show what is hidden.

use crate::keys;
use crate::message::{Kind, Message};
use crate::splice::Edit;
use bytes::Bytes;
use json::{Kind as JsonKind, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

/// One page of a tool list.
#[derive(Clone, Debug)]
pub struct ToolList<'d> {
    result: Value<'d>,
    tools: Value<'d>,
    entries: Vec<Result<Tool<'d>, Unreadable<'d>>>,
}

/// One tool of a list.
#[derive(Clone, Debug)]
pub struct Tool<'d> {
    /// The name, decoded.
    pub name: Cow<'d, str>,
    /// The whole definition.
    pub definition: Value<'d>,
    /// The schema of the arguments, where it is there.
    pub input_schema: Option<Value<'d>>,
    /// Whether the list has another definition of the same name: clients may take either.
    pub is_disputed: bool,
}

/// An element of a list that nobody can decide about: it is never shown.
#[derive(Clone, Debug)]
pub struct Unreadable<'d> {
    /// The name, as far as there is one.
    pub name: Option<Cow<'d, str>>,
    /// What is wrong, for a person.
    pub problem: String,
}

/// A result that is no tool list. It must be replaced by an error, never passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAList(String);

impl NotAList {
    pub(crate) fn new(why: &str) -> NotAList {
        NotAList(why.to_owned())
    }
}

impl fmt::Display for NotAList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's list cannot be read: {}", self.0)
    }
}

impl std::error::Error for NotAList {}

/// Why an element is left out whose name an element before it has.
pub const REPEATED: &str = "its name stands in the list already";

/// The members of a definition that decide what a client sees and calls.
const ENTRY: &[&str] = &["name", "inputSchema"];

impl<'d> ToolList<'d> {
    /// Reads the `result` of a `tools/list`.
    ///
    /// Elements that are no objects, have no `name` or a `name` or `inputSchema` twice or in disguise (`Name`), or repeat
    /// the name of an element before them, are kept apart as [`Unreadable`]. Where such a repetition is not the same byte for
    /// byte, the first is disputed.
    ///
    /// # Errors
    /// [`NotAList`] when `tools` is no array, or stands twice or in disguise.
    pub fn of(result: Value<'d>) -> Result<ToolList<'d>, NotAList> {
        ToolList::under("tools", result)
    }

    /// Reads the `result` of a `prompts/list`: prompts have names and definitions as tools have, and no schema.
    ///
    /// # Errors
    /// As for [`ToolList::of`], of `prompts`.
    pub fn of_prompts(result: Value<'d>) -> Result<ToolList<'d>, NotAList> {
        ToolList::under("prompts", result)
    }

    fn under(key: &str, result: Value<'d>) -> Result<ToolList<'d>, NotAList> {
        keys::check_twice(Some(result), keys::RESULT).map_err(|clash| NotAList(clash.to_string()))?;
        keys::check_look_alikes(Some(result), keys::RESULT).map_err(|clash| NotAList(clash.to_string()))?;
        let Some(tools) = result.get(key) else { return Err(NotAList(format!("`{key}` is missing"))) };
        let Some(elements) = tools.elements() else { return Err(NotAList(format!("`{key}` is no array"))) };
        let (mut first, mut disputed) = (HashMap::new(), Vec::new());
        let mut entries: Vec<_> = elements
            .enumerate()
            .map(|(at, element)| {
                let tool = Tool::of(element)?;
                match first.entry(tool.name.clone()) {
                    Entry::Vacant(place) => {
                        place.insert((at, tool.definition.raw()));
                        Ok(tool)
                    }
                    Entry::Occupied(place) => {
                        let (first, definition) = *place.get();
                        if definition != tool.definition.raw() {
                            disputed.push(first);
                        }
                        Err(Unreadable { name: Some(tool.name), problem: REPEATED.into() })
                    }
                }
            })
            .collect();
        for at in disputed {
            if let Ok(tool) = &mut entries[at] {
                tool.is_disputed = true;
            }
        }
        Ok(ToolList { result, tools, entries })
    }

    /// The tools, in the order of the list.
    pub fn tools(&self) -> impl Iterator<Item = &Tool<'d>> {
        self.entries.iter().flatten()
    }

    /// The elements that are never shown.
    pub fn unreadable(&self) -> impl Iterator<Item = &Unreadable<'d>> {
        self.entries.iter().filter_map(|entry| entry.as_ref().err())
    }

    /// Takes the tools that `keep` does not name, and the elements that are never shown, out of the text that this is a list
    /// of: `edit` is an edit of that.
    pub fn keep<'t>(&self, edit: Edit<'t>, mut keep: impl FnMut(&Tool<'_>) -> bool) -> Edit<'t> {
        let stays: Vec<bool> = self.entries.iter().map(|entry| entry.as_ref().is_ok_and(&mut keep)).collect();
        remove_elements(edit, self.tools, &stays)
    }

    /// Where the next page begins; an empty string is a cursor like any other.
    pub fn next_cursor(&self) -> Option<Value<'d>> {
        self.result.get("nextCursor").filter(|cursor| !cursor.is_null())
    }
}

impl<'d> Tool<'d> {
    fn of(definition: Value<'d>) -> Result<Tool<'d>, Unreadable<'d>> {
        let name = definition.get("name").and_then(Value::as_str);
        let clash = keys::check_twice(Some(definition), ENTRY).and_then(|()| keys::check_look_alikes(Some(definition), ENTRY));
        let problem = match (&name, clash) {
            (_, Err(clash)) => clash.to_string(),
            (None, Ok(())) => "it has no `name`".to_owned(),
            (Some(_), Ok(())) => {
                let input_schema = definition.get("inputSchema");
                return Ok(Tool { name: name.unwrap_or_default(), definition, input_schema, is_disputed: false });
            }
        };
        Err(Unreadable { name, problem })
    }
}

/// A filtered list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filtered {
    /// The text of the message without what was taken out.
    pub text: Bytes,
    /// The names that stayed, in order.
    pub kept: Vec<String>,
    /// The names that were taken out; of those nobody can decide about, why, for the log.
    pub removed: Vec<(String, Option<String>)>,
}

/// Takes the tools that are disputed or that `keep` does not name out of the response `message` to a `tools/list`. An error
/// response stays as it is.
///
/// # Errors
/// [`NotAList`]: answer an error in its place.
pub fn filter(message: &Message, mut keep: impl FnMut(&Tool<'_>) -> bool) -> Result<Filtered, NotAList> {
    let result = match (message.kind(), message.result()) {
        (Kind::Response { is_error: true }, _) => {
            return Ok(Filtered { text: message.text().clone(), kept: Vec::new(), removed: Vec::new() });
        }
        (Kind::Response { is_error: false }, Some(result)) => result,
        _ => return Err(NotAList("it is no response".into())),
    };
    let list = ToolList::of(result)?;
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for entry in list.unreadable() {
        removed.push((entry.name.as_deref().unwrap_or_default().to_owned(), Some(entry.problem.clone())));
    }
    let choice = |tool: &Tool<'_>| {
        let stays = !tool.is_disputed && keep(tool);
        if stays {
            kept.push(tool.name.to_string())
        } else {
            removed.push((tool.name.to_string(), None))
        }
        stays
    };
    let text = list.keep(message.edit(), choice).finish();
    Ok(Filtered { text, kept, removed })
}

/// Takes out the elements that do not stay, each with one comma: the one before it when an element before it stays, else
/// the one after it.
pub(crate) fn remove_elements<'t>(mut edit: Edit<'t>, array: Value<'_>, stays: &[bool]) -> Edit<'t> {
    debug_assert_eq!(array.kind(), JsonKind::Array);
    let spans: Vec<_> = array.elements().into_iter().flatten().map(Value::span).collect();
    let mut stayed = false;
    for (i, span) in spans.iter().enumerate() {
        if stays[i] {
            stayed = true;
        } else if stayed {
            edit = edit.remove(spans[i - 1].end..span.end);
        } else {
            edit = edit.remove(span.start..spans.get(i + 1).map_or(span.end, |next| next.start));
        }
    }
    edit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Side;
    use proptest::prelude::*;

    fn reply(result: &str) -> Message {
        Message::parse(format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{result}}}"), Side::Server).unwrap()
    }

    /// The result that is left when `hidden` are taken out.
    #[track_caller]
    fn check(result: &str, hidden: &[&str], expected: &str) {
        let filtered = filter(&reply(result), |tool| !hidden.contains(&&*tool.name)).unwrap();
        assert_eq!(filtered.text, *reply(expected).text());
    }

    #[test]
    fn elements_go_with_one_comma_and_the_rest_stays_byte_for_byte() {
        let list =
            r#"{ "tools" : [ {"name":"a","x":1.0} , {"name":"b"},{"name":"c"} ] ,"nextCursor":"", "_meta":{"z":1}, "new":[] }"#;
        check(list, &[], list);
        check(list, &["a"], r#"{ "tools" : [ {"name":"b"},{"name":"c"} ] ,"nextCursor":"", "_meta":{"z":1}, "new":[] }"#);
        check(list, &["b"], r#"{ "tools" : [ {"name":"a","x":1.0},{"name":"c"} ] ,"nextCursor":"", "_meta":{"z":1}, "new":[] }"#);
        check(list, &["b", "c"], r#"{ "tools" : [ {"name":"a","x":1.0} ] ,"nextCursor":"", "_meta":{"z":1}, "new":[] }"#);
        check(list, &["a", "b", "c"], r#"{ "tools" : [  ] ,"nextCursor":"", "_meta":{"z":1}, "new":[] }"#);
        check(r#"{"tools":[]}"#, &["a"], r#"{"tools":[]}"#);
    }

    #[test]
    fn names_are_compared_decoded() {
        check(r#"{"tools":[{"n\u0061me":"\u0061"},{"name":"A"}]}"#, &["a"], r#"{"tools":[{"name":"A"}]}"#);
    }

    #[test]
    fn what_nobody_can_decide_about_is_taken_out() {
        for entry in [
            r#""a""#,
            "null",
            "{}",
            r#"{"name":1}"#,
            r#"{"name":"ok","name":"hidden"}"#,
            r#"{"name":"ok","Name":"hidden"}"#,
            r#"{"Name":"hidden"}"#,
            r#"{"name":"ok","inputSchema":{},"inputSchema":{"type":"object"}}"#,
        ] {
            let filtered = filter(&reply(&format!(r#"{{"tools":[{entry},{{"name":"z"}}]}}"#)), |_| true).unwrap();
            assert_eq!(filtered.text, *reply(r#"{"tools":[{"name":"z"}]}"#).text(), "{entry}");
            assert!(filtered.removed[0].1.is_some());
        }
    }

    #[test]
    fn of_two_definitions_of_one_name_neither_stays() {
        check(r#"{"tools":[{"name":"a","v":1},{"name":"b"},{"name":"a","v":2}]}"#, &[], r#"{"tools":[{"name":"b"}]}"#);
    }

    #[test]
    fn what_is_said_twice_in_the_same_words_stays_once() {
        check(r#"{"tools":[{"name":"a"},{"name":"b"},{"name":"a"}]}"#, &[], r#"{"tools":[{"name":"a"},{"name":"b"}]}"#);
    }

    #[test]
    fn what_is_no_list_is_an_error_never_passed() {
        for result in [
            "{}",
            "[]",
            "null",
            r#"{"tools":null}"#,
            r#"{"tools":{"a":1}}"#,
            r#"{"Tools":[]}"#,
            r#"{"tools":[],"Tools":[{"name":"hidden"}]}"#,
            r#"{"tools":[],"toolſ":[{"name":"hidden"}]}"#,
        ] {
            assert!(filter(&reply(result), |_| true).is_err(), "{result}");
        }
    }

    #[test]
    fn a_list_twice_does_not_even_parse() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"hidden"}]}}"#;
        assert!(Message::parse(text, Side::Server).is_err());
    }

    #[test]
    fn prompts_are_listed_as_tools_are() {
        let message = reply(r#"{"prompts":[{"name":"a"},{"Name":"b"}],"tools":7}"#);
        let list = ToolList::of_prompts(message.result().unwrap()).unwrap();
        assert_eq!(list.tools().map(|prompt| &*prompt.name).collect::<Vec<_>>(), ["a"]);
        assert_eq!(list.keep(message.edit(), |_| false).finish(), *reply(r#"{"prompts":[],"tools":7}"#).text());
        assert!(ToolList::of_prompts(reply("{}").result().unwrap()).is_err());
    }

    #[test]
    fn an_error_stays_as_it_is() {
        let text = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"Invalid Request"}}"#;
        let message = Message::parse(text, Side::Server).unwrap();
        assert_eq!(filter(&message, |_| false).unwrap().text, text);
    }

    #[test]
    fn an_empty_cursor_is_a_cursor() {
        let message = reply(r#"{"tools":[],"nextCursor":""}"#);
        assert_eq!(ToolList::of(message.result().unwrap()).unwrap().next_cursor().unwrap().raw(), "\"\"");
    }

    proptest! {
        #[test]
        fn any_choice_leaves_a_list_of_exactly_that_choice(choice in proptest::collection::vec(any::<bool>(), 0..8), space in "[ \n]{0,2}") {
            let elements: Vec<_> = (0..choice.len()).map(|i| format!("{space}{{\"name\":\"t{i}\",\"x\":[{i},\"]\"]}}{space}")).collect();
            let message = reply(&format!("{{\"a\":[1,2],\"tools\":[{space}{}],\"nextCursor\":\"\"}}", elements.join(",")));
            let filtered = filter(&message, |tool| choice[tool.name[1..].parse::<usize>().unwrap()]).unwrap();
            let after = Message::parse(filtered.text.clone(), Side::Server).unwrap();
            let list = ToolList::of(after.result().unwrap()).unwrap();
            let names: Vec<_> = list.tools().map(|tool| tool.name.to_string()).collect();
            let expected: Vec<_> = choice.iter().enumerate().filter(|(_, stays)| **stays).map(|(i, _)| format!("t{i}")).collect();
            prop_assert_eq!(&names, &expected);
            prop_assert_eq!(&filtered.kept, &expected);
            for (tool, i) in list.tools().zip(&expected) {
                prop_assert_eq!(tool.definition.raw(), format!("{{\"name\":\"{i}\",\"x\":[{},\"]\"]}}", &i[1..]));
            }
            let rest = |m: &Message| m.text().len() - m.result().unwrap().get("tools").unwrap().raw().len();
            prop_assert_eq!(rest(&message), rest(&after));
        }
    }
}
