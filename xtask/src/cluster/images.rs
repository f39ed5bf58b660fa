//! Images without a container engine: OCI archives of one layer.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::components::Node;

/// What sandboxes run, so that a pod has somebody to keep its namespaces.
pub(crate) const PAUSE: &str = "headwater.dev/pause:1";

/// What stands in an image at a path, which has no slash in front.
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) is: Is,
}

pub(crate) enum Is {
    File {
        content: Vec<u8>,
        mode: u32,
    },
    /// Another name of a file that stands before it: a hard link, so that each is whole wherever it is copied to.
    SameAs(String),
}

/// Writes an OCI archive of one layer, which engines that know only Docker's archives load as well.
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
    for Entry { path, is } in entries {
        match is {
            Is::File { content, mode } => append(&mut layer, path, content, *mode)?,
            Is::SameAs(other) => {
                let mut header = tar::Header::new_ustar();
                header.set_entry_type(tar::EntryType::Link);
                header.set_mode(0o755);
                header.set_size(0);
                layer.append_link(&mut header, path, other)?;
            }
        }
    }
    let layer = layer.into_inner()?;
    // Not zstd, which is smaller: gzip is what every registry and engine takes.
    let mut compressed = GzEncoder::new(Vec::new(), Compression::best());
    compressed.write_all(&layer)?;
    let compressed = compressed.finish()?;
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Entrypoint":{entrypoint:?},"User":"{user}"}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        digest(&layer)
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &compressed)
    );
    let described = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let described = described.trim_end_matches('}');
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{described},"annotations":{{"io.containerd.image.name":"{name}","org.opencontainers.image.ref.name":"{name}"}}}}]}}"#
    );
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes));
    let docker = format!(
        r#"[{{"Config":"{}","RepoTags":["{name}"],"Layers":["{}"]}}]"#,
        blob(config.as_bytes()),
        blob(&compressed)
    );
    let file = File::create(archive).with_context(|| archive.display().to_string())?;
    let mut builder = tar::Builder::new(file);
    append(&mut builder, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(&mut builder, "index.json", index.as_bytes(), 0o644)?;
    append(&mut builder, "manifest.json", docker.as_bytes(), 0o644)?;
    for bytes in [manifest.as_bytes(), config.as_bytes(), &compressed] {
        append(&mut builder, &blob(bytes), bytes, 0o644)?;
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
        &[Entry { path: "pause".to_owned(), is: Is::File { content, mode: 0o755 } }],
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use flate2::read::GzDecoder;
    use serde_json::Value;

    use super::*;

    fn read(mut from: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.path().unwrap().display().to_string(), read(entry))).collect()
    }

    #[test]
    fn an_archive_has_each_file_once_and_is_found_by_its_digests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        let program = Is::File { content: b"program".repeat(10_000), mode: 0o755 };
        let entries = [
            Entry { path: "a".to_owned(), is: program },
            Entry { path: "etc/b".to_owned(), is: Is::SameAs("a".to_owned()) },
        ];
        write(&path, "example.org/it:1", &entries, &["/a"], "7:7").unwrap();

        let archive = files(&std::fs::read(&path).unwrap());
        let json = |name: &str| serde_json::from_slice::<Value>(&archive[name]).unwrap();
        let blob = |described: &Value| {
            let name = described["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
            let bytes = &archive[&name];
            assert_eq!(name, format!("blobs/sha256/{}", digest(bytes)));
            assert_eq!(described["size"], bytes.len());
            (name, bytes)
        };
        let manifest: Value = serde_json::from_slice(blob(&json("index.json")["manifests"][0]).1).unwrap();
        let (config_name, config) = blob(&manifest["config"]);
        let (layer_name, layer) = blob(&manifest["layers"][0]);
        let docker = serde_json::json!([
            {"Config": config_name, "RepoTags": ["example.org/it:1"], "Layers": [layer_name]}
        ]);
        assert_eq!(json("manifest.json"), docker);

        assert!(layer.len() < 7_000, "{} bytes", layer.len());
        let layer = read(GzDecoder::new(&layer[..]));
        let config: Value = serde_json::from_slice(config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&layer)));
        let unpacked = folder.path().join("root");
        tar::Archive::new(&layer[..]).unpack(&unpacked).unwrap();
        for name in ["a", "etc/b"] {
            assert_eq!(std::fs::read(unpacked.join(name)).unwrap(), b"program".repeat(10_000), "{name}");
        }
    }
}
