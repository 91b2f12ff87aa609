//! The Model Context Protocol without input or output: messages, revisions, framing, headers, lists, methods.
