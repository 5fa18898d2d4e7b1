// SPDX-License-Identifier: Apache-2.0
//! Parses Android.bp files: the part of the language that this project uses. Anything else is an
//! error.
//!
//! `tests/android_bp.rs` uses it too.

use std::collections::BTreeMap;

/// Reason why a file cannot be parsed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlueprintError {
    #[error("line {line}: expected {wanted}, found {found:?}")]
    Syntax { line: usize, wanted: String, found: String },
    #[error("module {module} uses the defaults {defaults}, which the file does not define")]
    NoDefaults { module: String, defaults: String },
}

/// One module of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// `rust_library` and the like.
    pub(crate) kind: String,
    /// The properties between its braces.
    pub(crate) properties: Properties,
}

/// Properties by name.
pub(crate) type Properties = BTreeMap<String, Value>;

/// A value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Text(String),
    List(Vec<String>),
    Map(Properties),
    Maps(Vec<Properties>),
}

impl Module {
    /// Returns its name; empty for a module without one, such as `package`.
    pub(crate) fn name(&self) -> &str {
        self.text("name").unwrap_or_default()
    }

    /// Returns a property that is a string.
    pub(crate) fn text(&self, property: &str) -> Option<&str> {
        match self.properties.get(property) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns a property that is a list of strings; empty if there is none.
    pub(crate) fn list(&self, property: &str) -> &[String] {
        match self.properties.get(property) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// Returns this module with the properties of its `defaults`: lists are joined, and the
    /// module's own values have precedence.
    ///
    /// # Errors
    /// If `modules` lacks one of the defaults.
    pub(crate) fn resolved(&self, modules: &[Self]) -> Result<Self, BlueprintError> {
        let mut properties = Properties::new();
        for name in self.list("defaults") {
            let defaults = modules.iter().find(|module| module.name() == name);
            let defaults = defaults.ok_or_else(|| BlueprintError::NoDefaults {
                module: self.name().to_owned(),
                defaults: name.clone(),
            })?;
            merge(&mut properties, &defaults.resolved(modules)?.properties);
        }
        merge(&mut properties, &self.properties);
        Ok(Self { kind: self.kind.clone(), properties })
    }
}

fn merge(into: &mut Properties, from: &Properties) {
    for (name, value) in from {
        match (into.get_mut(name), value) {
            (Some(Value::List(had)), Value::List(more)) => had.extend(more.iter().cloned()),
            (Some(Value::Map(had)), Value::Map(more)) => merge(had, more),
            _ => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

/// Parses the modules of a file.
///
/// # Errors
/// The first error, with its line.
pub(crate) fn parse(text: &str) -> Result<Vec<Module>, BlueprintError> {
    let mut reader = Reader { text, at: 0 };
    let mut modules = Vec::new();
    while reader.peek().is_some() {
        let kind = reader.word()?;
        let Value::Map(properties) = reader.map()? else { return Err(reader.complaint("a module")) };
        modules.push(Module { kind, properties });
    }
    Ok(modules)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn complaint(&self, wanted: &str) -> BlueprintError {
        let line = self.text[..self.at].lines().count().max(1);
        let found = self.text[self.at..].lines().next().unwrap_or("the end").to_owned();
        BlueprintError::Syntax { line, wanted: wanted.to_owned(), found }
    }

    /// Returns the next character that is neither space nor part of a comment.
    fn peek(&mut self) -> Option<char> {
        loop {
            let rest = self.text[self.at..].trim_start();
            self.at = self.text.len() - rest.len();
            if !rest.starts_with("//") {
                return rest.chars().next();
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn demand(&mut self, wanted: char) -> Result<(), BlueprintError> {
        if self.take(wanted) { Ok(()) } else { Err(self.complaint(&format!("{wanted:?}"))) }
    }

    fn word(&mut self) -> Result<String, BlueprintError> {
        self.peek();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            return Err(self.complaint("a name"));
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    fn string(&mut self) -> Result<String, BlueprintError> {
        self.demand('"')?;
        let mut text = String::new();
        let mut characters = self.text[self.at..].char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += offset + 1;
                    return Ok(text);
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                '\n' => break,
                _ => text.push(character),
            }
        }
        Err(self.complaint("the end of a string"))
    }

    fn value(&mut self) -> Result<Value, BlueprintError> {
        match self.peek() {
            Some('"') => self.string().map(Value::Text),
            Some('[') => self.list(),
            Some('{') => self.map(),
            _ => match self.word()?.as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(self.complaint("a value before this position")),
            },
        }
    }

    fn list(&mut self) -> Result<Value, BlueprintError> {
        self.demand('[')?;
        let (mut texts, mut maps) = (Vec::new(), Vec::new());
        while !self.take(']') {
            match self.value()? {
                Value::Text(text) => texts.push(text),
                Value::Map(map) => maps.push(map),
                _ => return Err(self.complaint("strings or maps before this position")),
            }
            if !self.take(',') && self.peek() != Some(']') {
                return Err(self.complaint("',' or ']'"));
            }
        }
        match (texts.is_empty(), maps.is_empty()) {
            (_, true) => Ok(Value::List(texts)),
            (true, false) => Ok(Value::Maps(maps)),
            (false, false) => Err(self.complaint("elements of one kind before this position")),
        }
    }

    fn map(&mut self) -> Result<Value, BlueprintError> {
        self.demand('{')?;
        let mut map = Properties::new();
        while !self.take('}') {
            let name = self.word()?;
            self.demand(':')?;
            let value = self.value()?;
            if map.insert(name.clone(), value).is_some() {
                return Err(self
                    .complaint(&format!("the property {name} once; it occurs twice before this position")));
            }
            if !self.take(',') && self.peek() != Some('}') {
                return Err(self.complaint("',' or '}'"));
            }
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_their_defaults_are_read() {
        let text = "// x\nd {\n name: \"d\", cfgs: [\"a\"], t: { n: [\"1\"] }, on: true, s: \"\\\"q\" }\n\
            m { name: \"m\", defaults: [\"d\"], cfgs: [\"b\",], t: { n: [\"2\"] }, on: false, v: [{ k: \"1\" }] }";
        let modules = parse(text).expect("sound");
        assert_eq!(modules[0].text("s"), Some("\"q"));
        let module = modules[1].resolved(&modules).expect("its defaults are there");
        assert_eq!((module.kind.as_str(), module.name()), ("m", "m"));
        assert_eq!(module.list("cfgs"), ["a", "b"]);
        assert_eq!(module.properties["on"], Value::Bool(false));
        let Some(Value::Map(inner)) = module.properties.get("t") else { panic!("{module:?}") };
        assert_eq!(inner["n"], Value::List(vec!["1".into(), "2".into()]));
        assert!(modules[1].resolved(&modules[1..]).is_err());
    }

    #[test]
    fn an_error_is_reported_with_its_line() {
        for (text, line) in [
            ("m {\n name: \"x\n}", "line 2"),
            ("m {\n\n a: yes }", "line 3"),
            ("m { a: [\"1\" \"2\"] }", "line 1"),
            ("m { a: [true] }", "line 1"),
            ("m { a: true, a: true }", "line 1"),
            ("m { a: true", "line 1"),
            ("x = 1", "line 1"),
        ] {
            let complaint = parse(text).expect_err(text).to_string();
            assert!(complaint.starts_with(line), "{text:?}: {complaint}");
        }
    }
}
