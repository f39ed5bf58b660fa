//! Compiles `proto/` without `protoc`, and keeps the descriptors of each API for reflection.

use std::error::Error;
use std::path::{Path, PathBuf};

use protox::prost::Message as _;

/// What one port serves: its descriptors are kept together.
const APIS: [(&str, &[&str]); 2] = [
    ("eventstore.bin", &["headwater/eventstore/v1/eventstore.proto", "eventstore/eventstore.proto"]),
    ("saga.bin", &["headwater/saga/v1/saga.proto"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    // Where this runs, not where it was built: target directories move, and are shared.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut all = compiler(&root)?;
    for (name, files) in APIS {
        for file in files {
            println!("cargo::rerun-if-changed={}", root.join(file).display());
        }
        let mut one = compiler(&root)?;
        one.open_files(files)?;
        std::fs::write(out.join(name), one.file_descriptor_set().encode_to_vec())?;
        all.open_files(files)?;
    }
    let mut messages = tonic_prost_build::Config::new();
    messages.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".headwater")
        .codec_path("crate::codec::Codec")
        .compile_fds_with_config(all.file_descriptor_set(), messages)?;
    Ok(())
}

fn compiler(root: &Path) -> Result<protox::Compiler, protox::Error> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true);
    Ok(compiler)
}
