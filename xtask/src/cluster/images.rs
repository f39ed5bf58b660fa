//! Images without a container engine: OCI archives of one layer.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use super::components::Node;

/// What sandboxes run, so that a pod has somebody to keep its namespaces.
pub(crate) const PAUSE: &str = "headwater.dev/pause:1";

/// A file in an image.
pub(crate) struct Entry {
    /// Without a slash in front.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
}

/// Writes an OCI archive of one layer.
pub(crate) fn write(
    archive: &Path,
    name: &str,
    entries: &[Entry],
    entrypoint: &[&str],
    user: &str,
) -> anyhow::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut folders = std::collections::BTreeSet::new();
    for entry in entries {
        for folder in Path::new(&entry.path).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            folders.insert(folder.to_owned());
        }
    }
    for folder in folders {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        layer.append_data(&mut header, folder, std::io::empty())?;
    }
    for entry in entries {
        append(&mut layer, &entry.path, &entry.content, entry.mode)?;
    }
    let layer = layer.into_inner()?;
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Entrypoint":{entrypoint:?},"User":"{user}"}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        digest(&layer)
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        descriptor("application/vnd.oci.image.layer.v1.tar", &layer)
    );
    let described = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let described = described.trim_end_matches('}');
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{described},"annotations":{{"io.containerd.image.name":"{name}","org.opencontainers.image.ref.name":"{name}"}}}}]}}"#
    );
    let file = File::create(archive).with_context(|| archive.display().to_string())?;
    let mut builder = tar::Builder::new(file);
    append(&mut builder, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(&mut builder, "index.json", index.as_bytes(), 0o644)?;
    for blob in [manifest.as_bytes(), config.as_bytes(), &layer] {
        append(&mut builder, &format!("blobs/sha256/{}", digest(blob)), blob, 0o644)?;
    }
    builder.into_inner()?.flush()?;
    Ok(())
}

fn append(
    builder: &mut tar::Builder<impl Write>,
    path: &str,
    content: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, path, content)?;
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Text takes whatever is written.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn descriptor(kind: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{kind}","digest":"sha256:{}","size":{}}}"#, digest(bytes), bytes.len())
}

/// The archive of the image that sandboxes run.
pub(crate) fn pause(folder: &Path) -> anyhow::Result<PathBuf> {
    let archive = folder.join("pause.tar");
    if archive.is_file() {
        return Ok(archive);
    }
    let (source, program) = (folder.join("pause.rs"), folder.join("pause"));
    std::fs::write(&source, "fn main() { loop { std::thread::park(); } }\n")?;
    let output = Command::new("rustc")
        .args(["-O", "-C", "target-feature=+crt-static", "--target", "x86_64-unknown-linux-gnu", "-o"])
        .arg(&program)
        .arg(&source)
        .output()
        .context("rustc")?;
    ensure!(output.status.success(), "rustc: {}", String::from_utf8_lossy(&output.stderr));
    let content = std::fs::read(&program)?;
    write(
        &archive,
        PAUSE,
        &[Entry { path: "pause".to_owned(), content, mode: 0o755 }],
        &["/pause"],
        "65535:65535",
    )?;
    Ok(archive)
}

/// Gives a node the images of an archive.
pub(crate) fn load(node: &Node, archive: &Path) -> anyhow::Result<()> {
    let output =
        node.ctr().args(["images", "import", "--all-platforms"]).arg(archive).output().context("ctr")?;
    ensure!(
        output.status.success(),
        "{} could not be loaded into {}: {}",
        archive.display(),
        node.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{} has {}", node.name(), archive.file_name().unwrap_or_default().to_string_lossy());
    Ok(())
}
