//! Serialization of times: RFC 3339, by the wall clock.

/// A time.
pub(super) mod wall {
    use std::time::SystemTime;

    use serde::Deserialize as _;

    use crate::rt::clock;

    pub(in crate::registry::persist) fn serialize<S: serde::Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&clock::rfc3339(*time))
    }

    pub(in crate::registry::persist) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
    }
}

/// An optional time.
pub(super) mod maybe_wall {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Serialize as _};

    use crate::rt::clock;

    pub(in crate::registry::persist) fn serialize<S: serde::Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(clock::rfc3339).serialize(serializer)
    }

    pub(in crate::registry::persist) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}
