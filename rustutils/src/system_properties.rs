// SPDX-License-Identifier: Apache-2.0
//! Android's system properties. A machine without a property area has no properties set.

use std::error::Error;

/// Reason why a property could not be read or parsed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read property {name}")]
pub struct PropertyWatcherError {
    name: String,
    source: Box<dyn Error + Send + Sync>,
}

/// Result of reading a property.
pub type Result<T> = std::result::Result<T, PropertyWatcherError>;

/// Returns the value of property `name`; `None` if it was never set.
///
/// # Errors
/// If the property area exists but is not readable, or the value is not UTF-8.
pub fn read(name: &str) -> Result<Option<String>> {
    if !rsproperties::properties_dir().exists() {
        return Ok(None);
    }
    match rsproperties::get::<String>(name) {
        Ok(value) => Ok(Some(value)),
        Err(rsproperties::Error::NotFound(_)) => Ok(None),
        Err(error) => Err(PropertyWatcherError { name: name.to_owned(), source: error.into() }),
    }
}

/// Returns whether property `name` is true (`1`, `y`, `yes`, `on`, `true`) or false (`0`, `n`,
/// `no`, `off`, `false`); `default` if it is unset or neither.
///
/// # Errors
/// As [`read`].
pub fn read_bool(name: &str, default: bool) -> Result<bool> {
    Ok(read(name)?.and_then(|value| parse_bool(&value)).unwrap_or(default))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "y" | "yes" | "on" | "true" => Some(true),
        "0" | "n" | "no" | "off" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_was_never_set_is_none() {
        assert_eq!(read("persist.vendor.anion.no_such_property").expect("not an error"), None);
        for default in [true, false] {
            assert_eq!(read_bool("persist.vendor.anion.no_such_property", default).expect("fine"), default);
        }
    }

    #[test]
    fn the_words_of_init_are_understood() {
        assert_eq!(parse_bool("on"), Some(true));
        assert_eq!(parse_bool("0"), Some(false));
        for neither in ["", "TRUE", "2"] {
            assert_eq!(parse_bool(neither), None, "{neither:?}");
        }
    }
}
