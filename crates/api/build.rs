//! Compiles `proto/` without `protoc`, and keeps the descriptors for reflection.

use std::error::Error;
use std::path::PathBuf;

use protox::prost::Message as _;

const FILES: [&str; 2] = ["headwater/eventstore/v1/eventstore.proto", "eventstore/eventstore.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    // Where this runs, not where it was built: target directories move, and are shared.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    for file in FILES {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();
    std::fs::write(
        PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin"),
        descriptors.encode_to_vec(),
    )?;

    let mut messages = tonic_prost_build::Config::new();
    messages.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".headwater")
        .codec_path("crate::codec::Codec")
        .compile_fds_with_config(descriptors, messages)?;
    Ok(())
}
