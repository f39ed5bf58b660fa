use anyhow::Result;

use crate::support::{Folder, run};

#[tokio::test]
async fn every_fault_is_named_with_its_place_and_remedy() -> Result<()> {
    let folder = Folder::orders()?;
    folder.edit("orders.yaml", "decimal(event.data.amount), status", "decimal(event.data.amount), statsu")?;
    folder.edit("orders.yaml", "type: Upsert", "type: Upsret")?;
    folder.write("dev.toml", "[services]\npayments = \"nowhere\"\n")?;
    let path = folder.path().display().to_string();
    let done = run(&["validate", &path]).await?;
    done.failed(2, "in the manifests");
    for part in [
        "orders.yaml:24: spec.rules[0].type: ",
        "did you mean \"Upsert\"?",
        // What was surely meant is looked at further.
        "statsu",
        "dev.toml:2: services.payments: ",
    ] {
        assert!(done.out.contains(part), "{part:?} is not in\n{}", done.out);
    }
    let json = run(&["--output", "json", "validate", &path]).await?.json_lines()?;
    assert!(json.iter().all(|fault| fault["kind"] == "fault" && fault["line"].is_u64()), "{json:?}");

    folder.edit("orders.yaml", "type: Upsret", "type: Upsert")?;
    let done = run(&["validate", &path]).await?;
    assert!(done.out.contains("orders.yaml:24") && done.out.contains("statsu"), "{}", done.out);
    Ok(())
}

#[tokio::test]
async fn a_schema_of_a_config_map_is_faulty_where_it_is_named() -> Result<()> {
    let folder = Folder::empty()?;
    folder.write(
        "stream.yaml",
        "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {name: orders}\nspec:\n  eventTypes:\n  - name: Created\n    schemaRef:\n      configMapKeyRef: {name: schemas, key: created}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: schemas}\ndata: {created: '{\"type\": \"strin\"}'}\n",
    )?;
    let done = run(&["validate", &folder.path().display().to_string()]).await?;
    done.failed(2, "1 fault");
    let place = "stream.yaml:8: spec.eventTypes[0].schemaRef.configMapKeyRef: type in the key \"created\" of the ConfigMap \"schemas\": ";
    assert!(done.out.contains(place), "{}", done.out);
    Ok(())
}

#[tokio::test]
async fn what_is_valid_is_counted() -> Result<()> {
    let folder = Folder::orders()?;
    let done = run(&["validate", &folder.path().display().to_string()]).await?.succeeded()?;
    assert_eq!(done.out, "valid: 1 EventStream, 1 Projection, 0 Sagas\n");
    run(&["validate", "/nowhere"]).await?.failed(2, "/nowhere");
    let other = Folder::empty()?;
    other.write("a.yaml", "apiVersion: example.com/v1\nkind: EventStream\nmetadata: {name: a}\n")?;
    let done = run(&["validate", &other.path().display().to_string()]).await?;
    done.failed(2, "there is no EventStream, Projection or Saga in");
    assert!(done.out.contains("EventStream a") && done.out.contains("is not Headwater's"), "{}", done.out);
    Ok(())
}

#[tokio::test]
async fn dev_starts_and_makes_nothing_when_something_is_wrong() -> Result<()> {
    let folder = Folder::orders()?;
    folder.edit("orders.yaml", "type: Upsert", "type: Upsret")?;
    folder.write("Procfile", "no program\n")?;
    let path = folder.path().display().to_string();
    let done = run(&["dev", &path]).await?;
    done.failed(2, "error: 2 faults; nothing was started, nothing was changed");
    assert!(done.out.contains("orders.yaml:24") && done.out.contains("Procfile:1"), "{}", done.out);
    assert!(!folder.join(".headwater").exists());

    folder.edit("orders.yaml", "type: Upsret", "type: Upsert")?;
    folder.write("Procfile", "")?;
    run(&["dev", &path, "--demo"]).await?.failed(2, "there is none in");
    folder.write("demo.http", "GET {{nothing}}/\n")?;
    let done = run(&["dev", &path, "--demo"]).await?;
    done.failed(2, "1 fault; nothing was started");
    assert!(done.out.contains("demo.http:1: {{nothing}} is not set before here"), "{}", done.out);
    run(&["dev", &path, "--listen", "0.0.0.0:0"]).await?.failed(2, "without authentication");
    assert!(!folder.join(".headwater").exists());

    let empty = Folder::empty()?;
    run(&["dev", &empty.path().display().to_string()]).await?.failed(2, "there is no EventStream in");
    Ok(())
}
