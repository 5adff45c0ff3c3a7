//! Ids as text: digits, prefixes, and the spellings of a UUID.

use std::fmt;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The text does not begin with the prefix of its type.
    #[error("text of {what}: it must begin with {prefix:?}")]
    NoPrefix {
        /// What was parsed: `an order id`, `a buyer`, `a request key`.
        what: &'static str,
        /// How the text must begin.
        prefix: &'static str,
    },
    /// The text has more or fewer digits than it can have.
    #[error("text of {what}: {digits} digits after the prefix, {min} to {max} needed")]
    WrongLength {
        /// What was parsed.
        what: &'static str,
        /// How many bytes follow the prefix, whether they are digits or not.
        digits: usize,
        /// The lower bound.
        min: usize,
        /// The upper bound.
        max: usize,
    },
    /// A character is not a digit of this type's notation.
    #[error("text of {what}: {found:?} at byte {at} is no digit")]
    NotADigit {
        /// What was parsed.
        what: &'static str,
        /// The character.
        found: char,
        /// Where it stands in the text, in bytes.
        at: usize,
    },
    /// The number does not fit 64 bits.
    #[error("text of {what}: the number is larger than 64 bits")]
    TooLarge {
        /// What was parsed.
        what: &'static str,
    },
    /// The first digit is 0 and others follow: an id is never written with leading zeros.
    #[error("text of {what}: it begins with 0")]
    LeadingZero {
        /// What was parsed.
        what: &'static str,
    },
    /// The prefix says that the key is a UUID of version 7, and its bits do not.
    #[error("text of {what}: not a UUID of version 7 of the years 2020 to 2099")]
    NotUuidV7 {
        /// What was parsed.
        what: &'static str,
    },
}

/// Crockford's base 32: without the letters that look like others.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BASE32_DIGITS_MAX: usize = 13;

/// Writes a number in base 32, most significant digit first.
pub(super) fn write_base32(f: &mut fmt::Formatter<'_>, prefix: &str, number: u64) -> fmt::Result {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(5).max(1);
    let mut text = [0; 32];
    let len = prefix.len() + digits as usize;
    text[..prefix.len()].copy_from_slice(prefix.as_bytes());
    for nth in 0..digits {
        text[len - 1 - nth as usize] = DIGITS[(number >> (5 * nth) & 31) as usize];
    }
    // Only letters and digits.
    f.pad(std::str::from_utf8(&text[..len]).unwrap_or_default())
}

/// Reads what [`write_base32`] wrote. Upper case is read too, and look-alikes as the digits that they look like.
pub(super) fn read_base32(
    what: &'static str,
    prefix: &'static str,
    text: &str,
) -> Result<u64, ParseIdError> {
    let digits = strip_prefix(text, prefix).ok_or(ParseIdError::NoPrefix { what, prefix })?;
    if digits.is_empty() || digits.len() > BASE32_DIGITS_MAX {
        let (digits, max) = (digits.len(), BASE32_DIGITS_MAX);
        return Err(ParseIdError::WrongLength { what, digits, min: 1, max });
    }
    let mut number: u64 = 0;
    for (at, found) in digits.char_indices() {
        let digit = base32_digit(found);
        let digit = digit.ok_or(ParseIdError::NotADigit { what, found, at: prefix.len() + at })?;
        if at == 0 && digit == 0 && digits.len() > 1 {
            return Err(ParseIdError::LeadingZero { what });
        }
        if number >> (u64::BITS - 5) > 0 {
            return Err(ParseIdError::TooLarge { what });
        }
        number = number << 5 | digit;
    }
    Ok(number)
}

fn base32_digit(digit: char) -> Option<u64> {
    let lower = match digit.to_ascii_lowercase() {
        'i' | 'l' => '1',
        'o' => '0',
        other => other,
    };
    DIGITS.iter().position(|it| char::from(*it) == lower).map(|at| at as u64)
}

pub(super) fn write_hex(f: &mut fmt::Formatter<'_>, prefix: &str, bytes: &[u8]) -> fmt::Result {
    f.write_str(prefix)?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads what [`write_hex`] wrote of 16 bytes, in upper case too.
pub(super) fn read_hex(
    what: &'static str,
    prefix: &'static str,
    text: &str,
) -> Result<[u8; 16], ParseIdError> {
    let digits = strip_prefix(text, prefix).ok_or(ParseIdError::NoPrefix { what, prefix })?;
    if digits.len() != 32 {
        let digits = digits.len();
        return Err(ParseIdError::WrongLength { what, digits, min: 32, max: 32 });
    }
    let mut number: u128 = 0;
    for (at, found) in digits.char_indices() {
        let digit = found.to_digit(16);
        let digit = digit.ok_or(ParseIdError::NotADigit { what, found, at: prefix.len() + at })?;
        number = number << 4 | u128::from(digit);
    }
    Ok(number.to_be_bytes())
}

/// Removes a prefix that is in lower or upper case.
fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (first, rest) = text.split_at_checked(prefix.len())?;
    first.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Returns the bytes of a UUID, if the text is one: 32 hex digits, alone or in groups of 8, 4, 4, 4 and 12 with hyphens
/// between them; in braces, after `urn:uuid:`, or as they are; in lower or upper case; in double quotes, as the
/// `Idempotency-Key` header has it, or without.
pub(super) fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let unquoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let text = unquoted.unwrap_or(text);
    let braced = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let text = braced.or_else(|| strip_prefix(text, "urn:uuid:")).unwrap_or(text);
    let is_hyphenated = match text.len() {
        32 => false,
        36 => true,
        _ => return None,
    };
    let mut number: u128 = 0;
    for (at, found) in text.bytes().enumerate() {
        if is_hyphenated && matches!(at, 8 | 13 | 18 | 23) {
            if found != b'-' {
                return None;
            }
            continue;
        }
        number = number << 4 | u128::from(char::from(found).to_digit(16)?);
    }
    Some(number.to_be_bytes())
}

/// Returns the first bytes of BLAKE3 in key derivation mode.
pub(super) fn hash_text<const N: usize>(context: &str, text: &str) -> [u8; N] {
    let digest = blake3::derive_key(context, text.as_bytes());
    let mut short = [0; N];
    short.copy_from_slice(&digest[..N]);
    short
}
