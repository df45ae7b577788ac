//! Options of netem in JSON of `tc`, and what they are in words (iproute2's `netem_print_opt`).

use serde_json::Value;

use crate::model::{PolicyError, short};

/// Returns the error for an option, or a value of it, that is unknown.
pub(super) fn not_understood(name: &str, value: &Value) -> PolicyError {
    let why = format!("is an option of netem that is not understood: {}", short(&value.to_string()));
    PolicyError::unsupported(name, why)
}

/// An option of netem.
#[derive(Debug)]
pub(super) struct TcOption {
    /// The name in JSON of `tc`.
    pub(super) name: &'static str,
    /// The form of the value.
    pub(super) form: Form,
}

/// The value of an option.
#[derive(Debug)]
pub(super) enum Form {
    /// A number, which is written behind the option's name.
    Number,
    /// The same, but zero says nothing.
    NumberUnlessZero,
    /// True, which is written as the option's name, or false, which says nothing.
    Switch,
    /// Fields, which are written behind a keyword, in this order.
    Values(&'static str, &'static [(&'static str, Unit)]),
}

/// The unit of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// A mere number.
    None,
    /// A mere number, which is written behind the field's name.
    Named,
    Seconds,
    /// A share of one.
    Share,
    BytesPerSecond,
    /// Not enough to know what is meant, for this reason.
    Unshown(&'static str),
}

impl TcOption {
    pub(super) fn write(&self, words: &mut String, value: &Value) -> Result<(), PolicyError> {
        let refused = || not_understood(self.name, value);
        match self.form {
            Form::NumberUnlessZero if *value == 0 => {}
            Form::Switch if *value == false => {}
            Form::Switch if *value == true => *words += &format!(" {}", self.name),
            Form::Switch => return Err(refused()),
            Form::Number | Form::NumberUnlessZero => {
                *words += &format!(" {} {}", self.name, value.as_u64().ok_or_else(refused)?);
            }
            Form::Values(keyword, values) => {
                let Value::Object(fields) = value else { return Err(refused()) };
                if fields.keys().any(|field| values.iter().all(|(name, _)| name != field)) {
                    return Err(refused());
                }
                *words += &format!(" {keyword}");
                for (name, unit) in values {
                    let Some(value) = fields.get(*name) else { continue };
                    *words += &unit.show(name, value.as_f64()).ok_or_else(refused)??;
                }
            }
        }
        Ok(())
    }
}

impl Unit {
    /// Returns a field in netem's words; none if its value is no number.
    fn show(self, name: &str, value: Option<f64>) -> Option<Result<String, PolicyError>> {
        if let Self::Unshown(why) = self {
            return Some(Err(PolicyError::contradiction(why, "write its name")));
        }
        let number = value?;
        Some(Ok(match self {
            Self::None | Self::Unshown(_) => format!(" {number}"),
            Self::Named => format!(" {name} {number}"),
            Self::Seconds => format!(" {number}s"),
            Self::Share => format!(" {}%", number * 100.0),
            Self::BytesPerSecond => format!(" {number}bps"),
        }))
    }
}
