//! The OpenAPI document of the query API, for the tables that there are.

use axum::extract::State;
use axum::response::Json;
use headwater_api::Problem;
use headwater_view::{ColumnType, TableSchema};
use serde_json::{Map, Value, json};

use crate::catalog::Catalog;

pub(super) async fn document(State(catalog): State<Catalog>) -> Result<Json<Value>, Problem> {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for entry in catalog.entries() {
        let Some(record) = entry.active(None).await? else { continue };
        let projection = entry.service.name();
        for table in &record.tables {
            let name = format!("{projection}.{}", table.name);
            let path = format!("/v1/projections/{projection}/{}", table.name);
            schemas.insert(name.clone(), row_schema(table));
            paths.insert(path.clone(), json!({ "get": list_operation(&name, table) }));
            let key: Vec<String> = key_names(table).map(|column| format!("{{{column}}}")).collect();
            paths.insert(format!("{path}/{}", key.join("/")), json!({ "get": row_operation(&name, table) }));
        }
    }
    schemas.insert("Problem".to_owned(), problem_schema());
    Ok(Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Headwater queries",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Rows of read models. Decimals and 64-bit integers are strings, so that no reader rounds them. Every answer carries the token of how far its read model is."
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })))
}

fn key_names(table: &TableSchema) -> impl Iterator<Item = &str> {
    table.key.iter().map(|column| table.columns[*column].name.as_str())
}

fn column_schema(column_type: ColumnType) -> Value {
    match column_type {
        ColumnType::Text => json!({ "type": "string" }),
        ColumnType::Integer => json!({ "type": "string", "format": "int64" }),
        ColumnType::Decimal => json!({ "type": "string", "format": "decimal" }),
        ColumnType::Boolean => json!({ "type": "boolean" }),
        ColumnType::Timestamp => json!({ "type": "string", "format": "date-time" }),
        ColumnType::Json => json!({}),
    }
}

fn row_schema(table: &TableSchema) -> Value {
    let properties: Map<String, Value> = table
        .columns
        .iter()
        .enumerate()
        .map(|(number, column)| {
            let mut schema = column_schema(column.column_type);
            if !table.key.contains(&number)
                && let Some(known) = schema.get_mut("type")
            {
                *known = json!([known.take(), "null"]);
            }
            (column.name.clone(), schema)
        })
        .collect();
    let required: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457",
        "properties": {
            "type": { "type": "string" }, "title": { "type": "string" }, "status": { "type": "integer" }, "detail": { "type": "string" },
            "field": { "type": "string" }, "reached": { "type": "string" }
        },
        "required": ["type", "title", "status", "detail"]
    })
}

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

/// The parameters that go with every query.
fn common_parameters() -> Vec<Value> {
    let text = json!({ "type": "string" });
    vec![
        parameter(
            "min_token",
            "Wait until the read model has come to this token; also as header Headwater-Min-Token",
            &text,
        ),
        parameter("timeout", "How long to wait, for example 5s", &text),
        parameter("as_of", "The rows as they were at this token or time (RFC 3339)", &text),
    ]
}

fn responses(schema: &Value) -> Value {
    let header = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let problem = |description: &str| {
        json!({
            "description": description,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
        })
    };
    json!({
        "200": {
            "description": "Found",
            "headers": {
                "Headwater-Token": header("How far the read model is"),
                "Headwater-Parked": header("How many events are set aside, where some are"),
            },
            "content": { "application/json": { "schema": schema } }
        },
        "400": problem("A parameter is wrong; `field` names it"),
        "404": problem("There is no such row, table or projection"),
        "504": problem("The token was not reached in time; `reached` says how far it is"),
    })
}

fn list_operation(name: &str, table: &TableSchema) -> Value {
    let mut parameters: Vec<Value> = table
        .columns
        .iter()
        .filter(|column| column.column_type != ColumnType::Json)
        .map(|column| {
            parameter(&column.name, "Only rows with this value", &column_schema(column.column_type))
        })
        .collect();
    let text = json!({ "type": "string" });
    parameters.push(parameter(
        "order_by",
        "Columns, separated by commas; -column from greatest to least",
        &text,
    ));
    parameters.push(parameter(
        "limit",
        "Rows at most",
        &json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 }),
    ));
    parameters.push(parameter("after", "`next` of the page before", &text));
    parameters.extend(common_parameters());
    let page = json!({
        "type": "object",
        "properties": {
            "rows": { "type": "array", "items": { "$ref": format!("#/components/schemas/{name}") } },
            "next": { "type": ["string", "null"] },
            "token": { "type": "string" }
        },
        "required": ["rows", "next", "token"]
    });
    json!({ "operationId": format!("list.{name}"), "parameters": parameters, "responses": responses(&page) })
}

fn row_operation(name: &str, table: &TableSchema) -> Value {
    let mut parameters: Vec<Value> = table
        .key
        .iter()
        .map(|column| {
            let column = &table.columns[*column];
            json!({ "name": column.name, "in": "path", "required": true, "schema": column_schema(column.column_type) })
        })
        .collect();
    parameters.extend(common_parameters());
    let row = json!({ "$ref": format!("#/components/schemas/{name}") });
    json!({ "operationId": format!("get.{name}"), "parameters": parameters, "responses": responses(&row) })
}
