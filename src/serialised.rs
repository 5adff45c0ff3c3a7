//! What the serde forms of several types share.

use serde::{Deserialize, Deserializer};

/// A value that was given, `null` included; one that is left out is the default, `None`.
pub(crate) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A duration as whole milliseconds, rounded up as the engine does.
pub(crate) mod whole_ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn of(duration: Duration) -> u64 {
        u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    pub(crate) fn serialize<S: Serializer>(
        it: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(of(*it))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Bytes of a payload: hex digits where a person may read them.
pub(crate) mod payload {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    use crate::bounds::PAYLOAD_BYTES_MAX;

    pub(crate) fn serialize<S: Serializer>(it: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(&format_args!("{it:x}")),
            false => serializer.serialize_bytes(it),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Bytes, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_str(Payload),
            false => deserializer.deserialize_byte_buf(Payload),
        }
    }

    struct Payload;

    impl Visitor<'_> for Payload {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a payload of at most {PAYLOAD_BYTES_MAX} bytes, as hex digits")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
            if text.len() > 2 * PAYLOAD_BYTES_MAX {
                return Err(E::invalid_length(text.len() / 2, &self));
            }
            let digit = |found: u8| char::from(found).to_digit(16).map(|digit| digit as u8);
            let pair = |pair: &[u8]| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            };
            let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
            bytes.map(Bytes::from).ok_or_else(|| E::custom("payload: not pairs of hex digits"))
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            match bytes.len() {
                0..=PAYLOAD_BYTES_MAX => Ok(Bytes::copy_from_slice(bytes)),
                len => Err(E::invalid_length(len, &self)),
            }
        }
    }
}
