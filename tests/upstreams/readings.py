"""How careless MCP servers read bytes.

A gateway is bypassed when it understands a message one way and the server behind it another way. This module gives every
way we know of at once: `messages(...)` turns bytes into all the message trees that some reader would see in them, and
`calls(...)` turns a tree into every tool call that some server would run for it. Nothing here refuses anything.

An object is kept as `Pairs`, in order and with its duplicates; a reader is a rule for which of them it picks.
"""

import base64
import binascii
import gzip
import json
import re
import sys
import unicodedata
import zlib

sys.setrecursionlimit(3_000)  # json's C scanner recurses too: more would overflow the stack

KNOWN_TOOLS = {
    "read_file", "write_file", "delete_repo", "transfer", "echo", "slow", "big", "noisy", "ask", "sample", "fail",
    "tool_error", "hang", "wrong_id", "twice", "crash", "progress", "spawn", "pay", "list_things", "guarded",
}

# How a server picks among duplicate members. `fold`: without regard to case (Go's encoding/json); `nfkc`: after Unicode
# normalisation; `trim`: white space, control and zero-width characters ignored.
DUPLICATES = ("last", "first", "fold-last", "fold-first", "nfkc-last", "nfkc-first", "trim-last", "trim-first")


class Pairs(list):
    """The members of an object, as they came."""


class Number(str):
    """A number, as it was spelt."""


# ---------------------------------------------------------------- bytes to texts

def texts(body, charset=None, encodings=()):
    """Every text that some server would see in `body`."""
    seen = []
    for raw in inflated(body, encodings):
        for text in decoded(raw, charset):
            if text not in seen:
                seen.append(text)
    return seen


def inflated(body, encodings):
    found = [body]
    for _ in range(3):  # double and triple compression too
        for raw in list(found):
            for inflate in (gzip.decompress, zlib.decompress, lambda b: zlib.decompress(b, -15)):
                if not encodings and raw[:2] != b"\x1f\x8b":
                    continue
                try:
                    out = inflate(raw)
                except (OSError, EOFError, zlib.error):
                    continue
                if out and out not in found:
                    found.append(out)
    return found


def decoded(raw, charset):
    names = ["utf-8-sig"]
    if charset and charset.lower() not in ("utf-8", "utf8"):
        names.insert(0, charset)
    if b"\0" in raw or raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        names += ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
    out = []
    for name in names:
        try:
            out.append(raw.decode(name))
        except (UnicodeError, LookupError):
            continue
    if not out or b"\xc0" in raw or b"\xed" in raw:
        out.append(careless_utf8(raw))
        out.append(raw.decode("utf-8", "ignore"))
        out.append(raw.decode("latin-1"))
    return out


def careless_utf8(raw):
    """UTF-8 by arithmetic alone: overlong forms, surrogates and all."""
    out, at = [], 0
    while at < len(raw):
        lead = raw[at]
        size = 1 if lead < 0x80 else 2 if 0xC0 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if lead >= 0xF0 else 0
        rest = raw[at + 1:at + size] if size else b""
        if size and len(rest) == size - 1 and all(b & 0xC0 == 0x80 for b in rest):
            code = lead if size == 1 else lead & (0xFF >> (size + 1))
            for b in rest:
                code = code << 6 | b & 0x3F
            out.append(chr(code) if code < 0x110000 else "\ufffd")
            at += size
        else:
            out.append("\ufffd")
            at += 1
    text = "".join(out)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # CESU-8 pairs become one character


# ---------------------------------------------------------------- texts to values

def values(text):
    """Every JSON value in `text`, one after the other, read as leniently as we can."""
    out, at = [], 0
    decoder = json.JSONDecoder(object_pairs_hook=Pairs, parse_float=Number, parse_int=Number, parse_constant=Number, strict=False)
    while True:
        while at < len(text) and (text[at].isspace() or text[at] in ",;\ufeff\0\x1e"):
            at += 1
        if at >= len(text):
            return out
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            try:
                value, at = Careless(text, at).value_and_end()
            except (ValueError, IndexError, RecursionError):
                return out
        out.append(value)


class Careless:
    """A JSON5-like parser: comments, trailing commas, single quotes, bare keys, hexadecimal numbers, unclosed ends."""

    def __init__(self, text, at):
        self.text, self.at = text, at

    def value_and_end(self):
        value = self.value()
        return value, self.at

    def space(self):
        while self.at < len(self.text):
            rest = self.text[self.at:self.at + 2]
            if rest[0].isspace() or rest[0] in "\ufeff\0\u200b":
                self.at += 1
            elif rest == "//" or rest[0] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end + 1
            elif rest == "/*":
                end = self.text.find("*/", self.at)
                self.at = len(self.text) if end < 0 else end + 2
            else:
                return

    def peek(self):
        return self.text[self.at] if self.at < len(self.text) else ""

    def value(self):
        self.space()
        c = self.peek()
        if c == "{":
            return self.object()
        if c == "[":
            return self.array()
        if c and c in "\"'`":
            return self.string(c)
        return self.word()

    def object(self):
        self.at += 1
        pairs = Pairs()
        while True:
            self.space()
            c = self.peek()
            if c in ("}", ""):
                self.at += 1
                return pairs
            if c in ",;":
                self.at += 1
                continue
            key = self.string(c) if c in "\"'`" else self.word(stop=":=}")
            self.space()
            if self.peek() in (":", "="):
                self.at += 1
                pairs.append((str(key), self.value()))
            else:
                pairs.append((str(key), None))

    def array(self):
        self.at += 1
        items = []
        while True:
            self.space()
            c = self.peek()
            if c in ("]", ""):
                self.at += 1
                return items
            if c in ",;":
                self.at += 1
                continue
            items.append(self.value())

    def string(self, quote):
        start = self.at
        at = start + 1
        while at < len(self.text) and self.text[at] != quote:
            at += 2 if self.text[at] == "\\" else 1
        raw = self.text[start + 1:at]
        self.at = at + 1
        return re.sub(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", unescape, raw, flags=re.S)

    def word(self, stop=",]}:"):
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in stop and not self.text[self.at].isspace():
            self.at += 1
        word = self.text[start:self.at]
        if not word:
            raise ValueError("no value")
        literals = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
        return literals[word] if word in literals else Number(word)


def unescape(match):
    escape = match.group(1)
    if escape[0] in "ux" and len(escape) > 1:
        return chr(int(escape[1:], 16))
    return {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}.get(escape, escape)


def messages(body, charset=None, encodings=(), lines=False):
    """Every message tree in `body`. With `lines`, also what a server sees that ends lines at CR, U+2028 and the like."""
    found = []
    for text in texts(body, charset, encodings):
        pieces = [text]
        if lines:
            pieces += [piece for piece in text.splitlines() if piece != text]
        for piece in pieces:
            try:
                found += [message for value in values(piece) for message in flattened(value) if message not in found]
            except RecursionError:
                continue
        if not found:
            found += scanned(text)
    return found


def flattened(value):
    """Batches, however deeply nested, and messages wrapped in a string."""
    if isinstance(value, Pairs):
        return [value]
    if isinstance(value, list):
        return [message for item in value for message in flattened(item)]
    if isinstance(value, str) and not isinstance(value, Number) and value.lstrip()[:1] in ("{", "["):
        return [message for item in values(value) for message in flattened(item)]
    return []


def scanned(text):
    """The last resort: a text that no parser of ours takes, read with regular expressions."""
    if not re.search(r'"tools\\?/call"', text):
        return []
    return [Pairs([("method", "tools/call"), ("params", Pairs([("name", name)]))])
            for name in re.findall(r'"name"\s*:\s*"(\w+)"', text) if name in KNOWN_TOOLS]


# ---------------------------------------------------------------- values to calls

def folded(key, how):
    if how == "fold":
        return key.casefold()
    if how == "nfkc":
        return unicodedata.normalize("NFKC", key).casefold()
    if how == "trim":
        return trimmed(key)
    return key


def trimmed(text):
    """Without what C strings, `strip()` and renderers ignore."""
    text = text.split("\0")[0] or text.replace("\0", "")
    return "".join(c for c in text if not c.isspace() and unicodedata.category(c) not in ("Cf", "Cc"))


def member(pairs, key, reader):
    """What `reader` (one of DUPLICATES) finds under `key`; None if nothing."""
    how, _, which = reader.rpartition("-")
    hits = [value for name, value in pairs if folded(name, how) == key]
    if not hits:
        return None
    return hits[0] if which == "first" else hits[-1]


def plain(value, reader, depth=0):
    """`value` as plain JSON, duplicates resolved the way `reader` does; not deeper than a log can hold."""
    if depth > 100:
        return "(deep)"
    if isinstance(value, Pairs):
        out = {}
        for name, inner in value:
            name = folded(name, reader.rpartition("-")[0])
            if name in out and reader.endswith("first"):
                continue
            out[name] = plain(inner, reader, depth + 1)
        return out
    if isinstance(value, list):
        return [plain(item, reader, depth + 1) for item in value]
    if isinstance(value, Number):
        try:
            number = json.loads(value)
        except ValueError:
            return str(value)
        return number if abs(number) < 1e300 else str(value)
    return value


LOOK_ALIKES = str.maketrans("аеорсухіѕԁӏαοѵɡ", "aeopcyxisdlaovg")


def spellings(name):
    """What a careless comparison would take `name` for."""
    out = [name]
    for text in (trimmed(name), name.split("\0")[0], name.strip(), unicodedata.normalize("NFKC", trimmed(name)).casefold(),
                 trimmed(name).translate(LOOK_ALIKES), "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)),
                 name.rsplit("/", 1)[-1], name.split(";")[0], name.split("\n")[0], name.split("\r")[0],
                 re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", name)):
        if text not in out and text in KNOWN_TOOLS:
            out.append(text)
    return out


def is_tools_call(method):
    if isinstance(method, list) and method:
        method = method[0]
    if not isinstance(method, str):
        return False
    text = re.sub(r"/+", "/", unicodedata.normalize("NFKC", trimmed(method)).casefold())
    return text in ("tools/call", "rpc.tools/call")


def arguments_of(value, reader):
    """Arguments, whatever they came as."""
    if value is None:
        return {}
    if isinstance(value, str) and not isinstance(value, Number):
        inner = values(value)
        return arguments_of(inner[0], reader) if inner and isinstance(inner[0], (Pairs, list)) else {"value": value}
    if isinstance(value, Pairs):
        return plain(value, reader)
    if isinstance(value, list):
        merged = {}
        for item in value:
            if isinstance(item, Pairs):
                merged.update(plain(item, reader))
        return merged or {"value": plain(value, reader)}
    return {"value": plain(value, reader)}


def calls(message, headers=()):
    """Every `(reading, tool, arguments)` that some server would run for `message`."""
    found = []

    def add(reading, name, arguments):
        if isinstance(name, Pairs):
            name = member(name, "name", "last")
        elif isinstance(name, list) and name:
            name = name[0]
        if not isinstance(name, str):
            return
        for tool in spellings(name):
            found.append((reading if tool == name else reading + "+look-alike", tool, arguments))

    for reader in DUPLICATES:
        methods = [member(message, "method", reader)]
        if reader == "last":
            methods += [value for key, value in message if key in ("Method", "METHOD")]
        if not any(map(is_tools_call, methods)):
            continue
        params = member(message, "params", reader)
        if isinstance(params, str):
            inner = values(params)
            params = inner[0] if inner else Pairs()
        if isinstance(params, list) and not isinstance(params, Pairs):  # by position
            if params and isinstance(params[0], Pairs):
                params = params[0]
            elif params:
                params = Pairs([("name", params[0]), ("arguments", params[1] if len(params) > 1 else None)])
        if not isinstance(params, Pairs):
            params = Pairs(message)  # `name` beside `method`
        name = member(params, "name", reader)
        if name is None:
            name = member(params, "tool", reader) or member(message, "tool", reader) or header_name(headers)
        for key in ("arguments", "args", "input"):
            arguments = member(params, key, reader)
            if arguments is not None:
                break
        add(reader, name, arguments_of(arguments, reader))
    # A server that trusts the mirrored headers and reads the body for the arguments alone.
    for which in (0, -1):
        methods = [value for key, value in headers if key.lower() == "mcp-method"]
        if methods and is_tools_call(methods[which]):
            params = member(message, "params", "last")
            inner = member(params, "arguments", "last") if isinstance(params, Pairs) else None
            add("header", header_name(headers, which), arguments_of(inner, "last"))
    return found


def header_name(headers, which=-1):
    names = [value for key, value in headers if key.lower() == "mcp-name"]
    if not names:
        return None
    name = names[which].strip()
    sentinel = re.fullmatch(r"=\?base64\?(.*)\?=", name, re.I)
    if sentinel:
        try:
            return base64.b64decode(sentinel.group(1) + "==").decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return name
    return name


def methods(message):
    """Every method that some reader would see in `message`."""
    return sorted({str(value) for reader in DUPLICATES for value in [member(message, "method", reader)] if value is not None})
