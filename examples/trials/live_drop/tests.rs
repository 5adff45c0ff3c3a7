//! A small drop, as anyone would hold it.

use clap::Parser;
use serde_json::Value;

use crate::args::Args;
use crate::shared::folder::RunFolder;
use crate::{hold_drop, show};

fn drop_of(seed: &str) -> Value {
    let args = ["live_drop", "--buyers", "600", "--stock", "80", "--seed", seed];
    let args = Args::try_parse_from(args).expect("valid");
    let folder = RunFolder::new("live-drop", None).expect("a folder");
    let (crowd, findings) = hold_drop(&args, &folder).expect("the drop is held");
    assert_eq!(findings.failures(), [""; 0]);
    show::json(&args, &crowd, &findings)
}

#[test]
fn a_small_drop_is_proved_and_shows_all_that_it_claims() {
    let json = drop_of("7");
    for key in ["held", "early_access", "waited", "promoted", "refused_by_merchant", "paid", "left"]
    {
        assert!(json[key].as_u64() > Some(0), "{key} of {json}");
    }
    assert_eq!(
        (&json["served_out_of_turn"], &json["oversold"]),
        (&Value::from(0), &Value::from(0))
    );
    assert_eq!(json["placed"], 600);
    assert_eq!(json, drop_of("7"), "a seed is always the same drop");
}
