#![no_main]

#[path = "../../hostile/entry.rs"]
#[allow(dead_code)]
mod entry;
#[path = "../../hostile/folder.rs"]
#[allow(dead_code)]
mod folder;
#[path = "../../hostile/forge.rs"]
mod forge;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry::checkpoint(input));
