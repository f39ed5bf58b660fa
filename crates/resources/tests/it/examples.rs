//! The examples are manifests without a fault.

use std::fs;
use std::path::Path;

use headwater_resources::manifest;

#[test]
fn every_example_is_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(examples).unwrap() {
        let directory = entry.unwrap().path();
        if !directory.is_dir() {
            continue;
        }
        let manifests = manifest::read_directory(&directory).unwrap();
        let faults: Vec<String> = manifests.faults.iter().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert!(
            !manifests.event_streams.is_empty() && !manifests.projections.is_empty(),
            "{}",
            directory.display()
        );
        // What lies deeper is run with what lies above it.
        for entry in fs::read_dir(&directory).unwrap() {
            let deeper = entry.unwrap().path();
            if deeper.join("dev.toml").is_file() {
                let manifests = manifest::read_directories(&[&deeper, &directory]).unwrap();
                let faults: Vec<String> = manifests.faults.iter().map(ToString::to_string).collect();
                assert!(faults.is_empty() && !manifests.sagas.is_empty(), "{}", faults.join("\n"));
            }
        }
        names.push(directory.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["banku", "orders"]);
}
