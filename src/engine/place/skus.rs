//! The SKUs of a request's lines, looked up once.

use crate::engine::core::Core;
use crate::error::PlaceError;
use crate::order::{Line, Lines};
use crate::stock::Sku;

/// The SKUs of a request's folded lines, in their order.
pub(in crate::engine) enum Skus<'a> {
    One(&'a Sku),
    Many(Vec<&'a Sku>),
}

impl<'a> Skus<'a> {
    pub(in crate::engine) fn find(core: &'a Core, lines: &Lines) -> Result<Self, PlaceError> {
        let find =
            |line: &Line| core.known_sku(line.sku).ok_or(PlaceError::UnknownSku { sku: line.sku });
        match lines.as_slice() {
            [line] => find(line).map(Self::One),
            lines => lines.iter().map(find).collect::<Result<_, _>>().map(Self::Many),
        }
    }

    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = &'a Sku> + '_ {
        match self {
            Self::One(sku) => std::slice::from_ref(sku),
            Self::Many(skus) => skus,
        }
        .iter()
        .copied()
    }

    pub(in crate::engine) fn single(&self) -> Option<&'a Sku> {
        match self {
            Self::One(sku) => Some(sku),
            Self::Many(_) => None,
        }
    }

    pub(in crate::engine) fn first(&self) -> &'a Sku {
        match self {
            Self::One(sku) => sku,
            // A validated order has a line.
            Self::Many(skus) => skus[0],
        }
    }
}
