//! [`Options`] as configuration, for serde. All but the folder may be left out. The clock, callbacks, and a storage
//! that is not a folder are the host's code and not configuration.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::serialised::{given, whole_ms};

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "Options")]
struct Form {
    folder: Option<PathBuf>,
    durability: Option<Durability>,
    partitions: Option<usize>,
    log_shards: Option<usize>,
    segment_bytes: Option<u64>,
    block_bytes_max: Option<usize>,
    log_backlog_bytes_max: Option<u64>,
    checkpoint_bytes: Option<u64>,
    #[serde(deserialize_with = "given")]
    log_retention_ms: Option<Option<u64>>,
    orders_max: Option<u64>,
    orders_reserved: Option<u64>,
    skus_max: Option<usize>,
    merchants_max: Option<usize>,
    buyers_tracked_max: Option<u64>,
    lines_max: Option<usize>,
    payload_bytes_max: Option<usize>,
    hold_default_ms: Option<u64>,
    hold_max_ms: Option<u64>,
    patience_max_ms: Option<u64>,
    retention_ms: Option<u64>,
    #[serde(deserialize_with = "given")]
    returns_window_ms: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    adjust_retention_ms: Option<Option<u64>>,
    finish_on_confirm: Option<bool>,
    key_ahead_max_ms: Option<u64>,
    #[serde(deserialize_with = "given")]
    remember_refusals: Option<Option<RememberForm>>,
    clock_jump_max_ms: Option<u64>,
    accept_clock_jump: Option<bool>,
    cut_after_power_loss: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RememberForm {
    duration_ms: u64,
    count_max: u64,
}

impl Serialize for Options {
    /// Writes every value but the host's code.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let remember =
            |(duration, count_max)| RememberForm { duration_ms: whole_ms::of(duration), count_max };
        let form = Form {
            folder: Some(self.folder()),
            durability: Some(self.durability),
            partitions: self.partitions,
            log_shards: self.log_shards,
            segment_bytes: Some(self.segment_bytes),
            block_bytes_max: Some(self.block_bytes_max),
            log_backlog_bytes_max: Some(self.log_backlog_bytes_max),
            checkpoint_bytes: Some(self.checkpoint_bytes),
            log_retention_ms: Some(self.log_retention.map(whole_ms::of)),
            orders_max: Some(self.orders_max),
            orders_reserved: Some(self.orders_reserved),
            skus_max: Some(self.skus_max),
            merchants_max: Some(self.merchants_max),
            buyers_tracked_max: Some(self.buyers_tracked_max),
            lines_max: Some(self.lines_max),
            payload_bytes_max: Some(self.payload_bytes_max),
            hold_default_ms: Some(whole_ms::of(self.hold_default)),
            hold_max_ms: Some(whole_ms::of(self.hold_max)),
            patience_max_ms: Some(whole_ms::of(self.patience_max)),
            retention_ms: Some(whole_ms::of(self.retention)),
            returns_window_ms: Some(self.returns_window.map(whole_ms::of)),
            adjust_retention_ms: Some(self.adjust_retention.map(whole_ms::of)),
            finish_on_confirm: Some(self.finish_on_confirm),
            key_ahead_max_ms: Some(whole_ms::of(self.key_ahead_max)),
            remember_refusals: Some(self.remember_refusals.map(remember)),
            clock_jump_max_ms: Some(whole_ms::of(self.clock_jump_max)),
            accept_clock_jump: Some(self.accept_clock_jump),
            cut_after_power_loss: Some(self.cut_after_power_loss),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Options {
    /// Reads a configuration. An unknown field, or a value out of its range, is refused by name.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        let folder = form.folder.clone().ok_or_else(|| D::Error::missing_field("folder"))?;
        let options = form.onto(Options::new(folder));
        options.validate().map_err(D::Error::custom)?;
        Ok(options)
    }
}

impl Form {
    fn onto(self, mut options: Options) -> Options {
        fn put<T>(at: &mut T, given: Option<T>) {
            if let Some(value) = given {
                *at = value;
            }
        }
        let ms = |given: Option<u64>| given.map(Duration::from_millis);
        put(&mut options.durability, self.durability);
        put(&mut options.segment_bytes, self.segment_bytes);
        put(&mut options.block_bytes_max, self.block_bytes_max);
        put(&mut options.log_backlog_bytes_max, self.log_backlog_bytes_max);
        put(&mut options.checkpoint_bytes, self.checkpoint_bytes);
        put(&mut options.log_retention, self.log_retention_ms.map(ms));
        put(&mut options.orders_max, self.orders_max);
        put(&mut options.orders_reserved, self.orders_reserved);
        put(&mut options.skus_max, self.skus_max);
        put(&mut options.merchants_max, self.merchants_max);
        put(&mut options.buyers_tracked_max, self.buyers_tracked_max);
        put(&mut options.lines_max, self.lines_max);
        put(&mut options.payload_bytes_max, self.payload_bytes_max);
        put(&mut options.hold_default, ms(self.hold_default_ms));
        put(&mut options.hold_max, ms(self.hold_max_ms));
        put(&mut options.patience_max, ms(self.patience_max_ms));
        put(&mut options.retention, ms(self.retention_ms));
        put(&mut options.returns_window, self.returns_window_ms.map(ms));
        put(&mut options.adjust_retention, self.adjust_retention_ms.map(ms));
        put(&mut options.finish_on_confirm, self.finish_on_confirm);
        put(&mut options.key_ahead_max, ms(self.key_ahead_max_ms));
        let remember = |it: RememberForm| (Duration::from_millis(it.duration_ms), it.count_max);
        put(&mut options.remember_refusals, self.remember_refusals.map(|it| it.map(remember)));
        put(&mut options.clock_jump_max, ms(self.clock_jump_max_ms));
        put(&mut options.accept_clock_jump, self.accept_clock_jump);
        put(&mut options.cut_after_power_loss, self.cut_after_power_loss);
        Options { partitions: self.partitions, log_shards: self.log_shards, ..options }
    }
}
