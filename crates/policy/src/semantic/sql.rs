//! `sql_statement_in`: a text is one SQL statement, of one of some kinds.
//!
//! The kind is read from the tree that a SQL parser makes of the text, not from its first word: a `WITH` may hold a
//! `DELETE`, a `SELECT` may write a table or call a function that writes. Functions are those of a list of harmless ones
//! (more can be named), since any other may do anything.
//!
//! Dialects differ in what is a comment, a string or the end of a statement. So whatever they differ in is refused, and
//! where no dialect is named the statement must be the same in all that are known here.

use super::{Mistake, listed, strings, text};
use crate::model::{Literal, SemanticOperator};
use json::Value;
use sqlparser::ast::{BinaryOperator, Expr, ObjectName, Query, Select, Statement, TableFactor, Visit, Visitor};
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Kinds of statements, in one dialect or in all.
#[derive(Debug)]
pub(super) struct SqlStatementIn {
    kinds: Vec<String>,
    functions: Vec<String>,
    dialects: Vec<Box<dyn Dialect + Send + Sync>>,
}

impl SqlStatementIn {
    pub(super) fn new(allowed: &Literal) -> Result<SqlStatementIn, Mistake> {
        let Literal::Object(members) = allowed else {
            return SqlStatementIn::of(strings(allowed, EXPECTED)?, Vec::new(), None);
        };
        if let Some(unknown) = members.keys().find(|key| !["dialect", "statements", "functions"].contains(&key.as_str())) {
            return Err(Mistake::new(format!("unknown key `{unknown}`"), EXPECTED));
        }
        let kinds = members.get("statements").ok_or_else(|| Mistake::new("`statements` is missing", EXPECTED))?;
        let functions = members.get("functions").map_or(Ok(Vec::new()), |all| strings(all, EXPECTED))?;
        let dialect = match members.get("dialect") {
            None => None,
            Some(Literal::String(name)) => Some(name.as_str()),
            Some(_) => return Err(Mistake::new("`dialect` is no string", EXPECTED)),
        };
        SqlStatementIn::of(strings(kinds, EXPECTED)?, functions, dialect)
    }

    fn of(kinds: Vec<String>, functions: Vec<String>, dialect: Option<&str>) -> Result<SqlStatementIn, Mistake> {
        let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_ascii_lowercase()).collect();
        if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(Mistake::new(format!("`{unknown}` is no kind of statement"), EXPECTED));
        }
        let functions = functions.iter().map(|name| name.to_ascii_lowercase()).collect();
        let dialects: Vec<Box<dyn Dialect + Send + Sync>> = match dialect {
            None => vec![Box::new(PostgreSqlDialect {}), Box::new(MySqlDialect {}), Box::new(SQLiteDialect {})],
            Some("postgresql") => vec![Box::new(PostgreSqlDialect {})],
            Some("mysql") => vec![Box::new(MySqlDialect {})],
            Some("sqlite") => vec![Box::new(SQLiteDialect {})],
            Some(other) => return Err(Mistake::new(format!("`{other}` is no known dialect"), EXPECTED)),
        };
        Ok(SqlStatementIn { kinds, functions, dialects })
    }
}

impl SemanticOperator for SqlStatementIn {
    fn name(&self) -> &'static str {
        "sql_statement_in"
    }

    fn phrase(&self) -> String {
        format!("be one SQL statement of the kind {}", self.operand())
    }

    fn operand(&self) -> String {
        listed(&self.kinds)
    }

    fn holds(&self, value: Value<'_>) -> Result<bool, String> {
        let text = text(value)?;
        has_one_reading(&text)?;
        let mut allowed = BTreeSet::new();
        for dialect in &self.dialects {
            let found = kinds(&text, dialect.as_ref(), &self.functions)?;
            let known = found.iter().filter(|kind| self.kinds.iter().any(|listed| listed == *kind)).count();
            if known != 0 && known != found.len() {
                return Err("must be a statement that does one thing only".to_owned());
            }
            allowed.insert(known > 0);
        }
        if allowed.len() > 1 {
            return Err("must be a statement that is the same in every dialect; or name the dialect in the policy".to_owned());
        }
        Ok(allowed.contains(&true))
    }
}

/// Refuses what dialects read differently: backslashes, comments, quotes of dollars, and characters that are no SQL.
fn has_one_reading(text: &str) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("must be plain SQL, without {what}"));
    let mut quote: Option<char> = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let next = characters.peek().copied();
        match (quote, c) {
            (_, '\\') => return refuse("backslashes"),
            (_, c) if c.is_control() && !matches!(c, '\n' | '\r' | '\t') => return refuse("control characters"),
            (Some(mark), c) if c == mark => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '/') if next == Some('*') => return refuse("comments"),
            (None, '-') if next == Some('-') => return refuse("comments"),
            (None, '#') => return refuse("`#`"),
            (None, '$') if !next.is_some_and(|next| next.is_ascii_digit()) => return refuse("`$`"),
            (None, c) if !c.is_ascii() => return refuse("characters outside of ASCII, but in quotes"),
            (None, _) => {}
        }
    }
    if quote.is_some() { refuse("quotes that are not closed") } else { Ok(()) }
}

/// The kinds of the one statement in a text, and of all that stand within it.
fn kinds(text: &str, dialect: &dyn Dialect, functions: &[String]) -> Result<BTreeSet<&'static str>, String> {
    let unread = || "must be one SQL statement that can be read".to_owned();
    let tokens = Tokenizer::new(dialect, text).tokenize().map_err(|_| unread())?;
    // The tree grows by what joins its parts, and walking it takes as much stack: what is deeper is refused unread.
    if tokens.len() > MOST_TOKENS || tokens.iter().filter(|token| joins(token)).count() > MOST_JOINTS {
        return Err("must be a shorter SQL statement".to_owned());
    }
    let mut statements =
        Parser::new(dialect).with_tokens(tokens).with_recursion_limit(DEEPEST).parse_statements().map_err(|_| unread())?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err("must be exactly one SQL statement".to_owned());
    };
    let mut reader = Reader { kinds: BTreeSet::new(), functions };
    match statement.visit(&mut reader) {
        ControlFlow::Continue(()) => Ok(reader.kinds),
        ControlFlow::Break(why) => Err(why),
    }
}

/// Whether a token makes the tree deeper.
fn joins(token: &Token) -> bool {
    match token {
        Token::Word(word) => JOINTS.contains(&word.value.to_ascii_lowercase().as_str()),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Comma
        | Token::Whitespace(_)
        | Token::RParen => false,
        _ => true,
    }
}

/// Collects the kinds of a statement and of those within; breaks at what may do more than its kind says.
struct Reader<'f> {
    kinds: BTreeSet<&'static str>,
    functions: &'f [String],
}

impl Reader<'_> {
    fn function(&self, name: &ObjectName) -> ControlFlow<String> {
        let name = name.to_string().to_ascii_lowercase();
        if HARMLESS.contains(&name.as_str()) || self.functions.contains(&name) {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break("must call no function but harmless ones; others can be named in the policy".to_owned())
    }
}

impl Visitor for Reader<'_> {
    type Break = String;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<String> {
        let kind = match statement {
            Statement::Query(_) => "select",
            Statement::Insert(insert) => {
                if insert.on.is_some() || insert.replace_into {
                    self.kinds.insert("update");
                }
                "insert"
            }
            Statement::Update(_) => "update",
            Statement::Delete(_) => "delete",
            Statement::Merge(_) => "merge",
            Statement::Truncate(_) => "truncate",
            Statement::Drop { .. } => "drop",
            Statement::CreateTable(_) | Statement::CreateView(_) | Statement::CreateIndex(_) => "create",
            Statement::AlterTable(_) => "alter",
            Statement::Explain { .. } => "explain",
            Statement::ExplainTable { .. } => "describe",
            Statement::ShowTables { .. } | Statement::ShowColumns { .. } | Statement::ShowDatabases { .. } => "show",
            _ => return ControlFlow::Break("must be a statement of a known kind".to_owned()),
        };
        // `EXPLAIN ANALYZE` runs what it explains, so it counts as that; a plain one too, which costs nothing to say.
        self.kinds.insert(kind);
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        if query.locks.is_empty() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break("must be a statement that locks nothing".to_owned())
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        if select.into.is_none() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break("must be a statement that writes no result anywhere".to_owned())
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        match factor {
            TableFactor::Table { args: None, .. } | TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => {
                ControlFlow::Continue(())
            }
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => self.function(name),
            _ => ControlFlow::Break("must read from tables only".to_owned()),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<String> {
        match expression {
            Expr::Function(function) => self.function(&function.name),
            Expr::BinaryOp {
                op: BinaryOperator::PGCustomBinaryOperator(_) | BinaryOperator::Custom(_) | BinaryOperator::Assignment,
                ..
            } => ControlFlow::Break("must use no operators of its own".to_owned()),
            _ => ControlFlow::Continue(()),
        }
    }
}

const KINDS: [&str; 12] =
    ["select", "insert", "update", "delete", "merge", "truncate", "drop", "create", "alter", "explain", "describe", "show"];

const JOINTS: [&str; 22] = [
    "and",
    "or",
    "not",
    "is",
    "in",
    "like",
    "ilike",
    "between",
    "union",
    "except",
    "intersect",
    "minus",
    "collate",
    "at",
    "xor",
    "div",
    "rlike",
    "regexp",
    "similar",
    "case",
    "prior",
    "over",
];

/// Functions that compute, and do nothing else, in all dialects that have them.
const HARMLESS: [&str; 62] = [
    "abs",
    "array_agg",
    "avg",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "date_format",
    "date_part",
    "date_trunc",
    "datediff",
    "day",
    "dense_rank",
    "exp",
    "extract",
    "first_value",
    "floor",
    "format",
    "group_concat",
    "hour",
    "ifnull",
    "instr",
    "json_agg",
    "json_extract",
    "lag",
    "last_value",
    "lead",
    "left",
    "length",
    "ln",
    "lower",
    "lpad",
    "ltrim",
    "max",
    "min",
    "mod",
    "month",
    "now",
    "nullif",
    "power",
    "rank",
    "replace",
    "right",
    "round",
    "row_number",
    "rtrim",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "trim",
    "upper",
    "year",
];

const MOST_TOKENS: usize = 6000;
const MOST_JOINTS: usize = 400;
const DEEPEST: usize = 40;
const EXPECTED: &str =
    "expected kinds of statements such as `[select]`, or `{dialect: postgresql, statements: [select], functions: [my_function]}`";

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(allowed: Literal) -> SqlStatementIn {
        SqlStatementIn::new(&allowed).unwrap()
    }

    fn select() -> SqlStatementIn {
        operator(Literal::Array(vec![Literal::String("select".into())]))
    }

    #[track_caller]
    fn judge(operator: &SqlStatementIn, text: &str, expected: Option<bool>) {
        let document = json::Document::parse(json::quote(text), json::Strictness::Request).unwrap();
        let judged = operator.holds(document.root());
        assert_eq!(judged.clone().ok(), expected, "{text}: {judged:?}");
    }

    #[test]
    fn a_statement_is_of_the_kind_of_its_tree() {
        for text in [
            "SELECT 1",
            "select a, count(*) from t where b = 'x;y' group by a",
            "SELECT ';'",
            "SELECT 1;",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "SELECT * FROM a JOIN b ON a.id = b.id WHERE a.n > 3 UNION SELECT 1, 2",
        ] {
            judge(&select(), text, Some(true));
        }
        for text in ["DROP TABLE t", "DELETE FROM t", "UPDATE t SET a = 1", "INSERT INTO t VALUES (1)", "TRUNCATE TABLE t"] {
            judge(&select(), text, Some(false));
        }
    }

    #[test]
    fn what_does_more_than_it_says_cannot_be_judged() {
        for text in [
            "SELECT 1; DROP TABLE t",
            "SELECT /*;*/ 1; DELETE FROM t",
            "SELECT 1 -- ;",
            "SELECT 1 /*!50000 ; DROP TABLE t */",
            "SELECT * INTO x FROM t",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT set_config('a', 'b', false)",
            "SELECT * FROM pg_ls_dir('/')",
            "SELECT * FROM t FOR UPDATE",
            "COPY t TO PROGRAM 'sh'",
            "DO $$ BEGIN END $$",
            "CALL f()",
            "SELECT 'a\\'; DROP TABLE t; --'",
            "SELECT * FROM t INTO OUTFILE '/tmp/x'",
            "",
            "SELEC 1",
            "SELECT 'open",
            "SET x = 1",
            "PRAGMA writable_schema = 1",
            "ATTACH DATABASE 'x' AS y",
            "VACUUM INTO 'x'",
            "COMMIT",
            "BEGIN",
            "SELECT \u{ff11}",
        ] {
            judge(&select(), text, None);
        }
        let postgres = |kinds: &[&str]| {
            let statements = Literal::Array(kinds.iter().map(|kind| Literal::String((*kind).into())).collect());
            operator(Literal::Object(
                [("dialect".to_owned(), Literal::String("postgresql".into())), ("statements".to_owned(), statements)].into(),
            ))
        };
        judge(&postgres(&["select"]), "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", None);
        judge(&postgres(&["select", "delete"]), "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", Some(true));
        judge(&postgres(&["select", "explain"]), "EXPLAIN ANALYZE DELETE FROM t", None);
        judge(&postgres(&["select", "explain"]), "EXPLAIN SELECT 1", Some(true));
        judge(&postgres(&["select"]), "SELECT a::int FROM t WHERE b ILIKE 'x%'", Some(true));
        judge(&postgres(&["insert"]), "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", None);
    }

    #[test]
    fn what_is_deep_or_long_is_refused_before_it_is_walked() {
        for text in [
            format!("SELECT {}1", "1+".repeat(5000)),
            format!("SELECT {}1{}", "(".repeat(3000), ")".repeat(3000)),
            format!("SELECT {}1", "NOT ".repeat(3000)),
            format!("SELECT 1{}", " UNION SELECT 1".repeat(900)),
            format!("SELECT {}", "x".repeat(20_000)),
        ] {
            judge(&select(), &text, None);
        }
    }

    #[test]
    fn a_value_that_names_nothing_known_is_a_mistake() {
        for value in [
            Literal::Array(vec![]),
            Literal::String("selec".into()),
            Literal::Bool(true),
            Literal::Object([("dialect".to_owned(), Literal::String("oracle".into()))].into()),
        ] {
            assert!(SqlStatementIn::new(&value).is_err(), "{value:?}");
        }
    }
}
