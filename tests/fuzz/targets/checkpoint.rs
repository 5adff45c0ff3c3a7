#![no_main]

#[path = "../../forged_files/entry.rs"]
#[allow(dead_code, reason = "each fuzzer calls one entry point")]
mod entry;
#[path = "../../forged_files/folder.rs"]
#[allow(dead_code, reason = "each fuzzer calls one entry point")]
mod folder;
#[path = "../../forged_files/forge.rs"]
mod forge;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry::checkpoint(input));
