//! What was not granted is not there, function by function.

use russet_plugin_host::{LoadError, inspect};
use serde_json::json;

use crate::common::artifact;
use crate::probe::{Load, all_grants, nowhere};

#[tokio::test]
async fn each_function_is_a_grant_of_its_own() {
    let manifest = inspect(&artifact("probe")).unwrap().manifest;
    assert!(manifest.capabilities.len() > 20);
    for capability in &manifest.capabilities {
        let load = Load {
            connections: nowhere(),
            ..Load::default()
        };
        let mut grants = all_grants(&load);
        grants.capabilities.remove(capability);
        match load.with(grants).await.map(|_| ()) {
            Err(LoadError::Grants(error)) => {
                assert_eq!(error.missing.len(), 1);
                assert_eq!(error.missing[0].flag, format!("--grant {capability}"));
            }
            other => panic!("{capability}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_connection_is_a_grant_of_its_own() {
    let load = Load {
        connections: nowhere(),
        ..Load::default()
    };
    let mut grants = all_grants(&load);
    grants.connections.http.clear();
    match load.with(grants).await.map(|_| ()) {
        Err(LoadError::Grants(error)) => assert_eq!(error.missing[0].flag, "--connection http:NAME"),
        other => panic!("{other:?}"),
    }
    // Others than the granted are not there, although the server has them.
    let mut load = Load {
        connections: nowhere(),
        ..Load::default()
    };
    let grants = all_grants(&load);
    let other = russet_plugin_host::HttpConnection {
        base_url: "https://other.example".to_owned(),
        ..Default::default()
    };
    load.connections.http.insert("other", other).unwrap();
    let probe = load.with(grants).await.unwrap();
    let error = probe
        .error(json!({"do": "http", "connection": "other", "path": "/"}))
        .await;
    assert!(
        error.contains("NotGranted") && error.contains("--connection http:other"),
        "{error}"
    );
    let search = json!({"do": "ldap-search", "connection": "other", "filter": "(a=b)", "attribute": "a", "limit": 1});
    let error = probe.error(search).await;
    assert!(
        error.contains("NotGranted") && error.contains("--connection ldap:other"),
        "{error}"
    );
}

#[tokio::test]
async fn a_granted_connection_has_to_be_there_for_the_tenant() {
    let mut load = Load {
        connections: nowhere(),
        ..Load::default()
    };
    let other = russet_plugin_host::HttpConnection {
        base_url: "https://other.example".to_owned(),
        tenants: Some(["other".to_owned()].into()),
        ..Default::default()
    };
    load.connections.http.insert("theirs", other).unwrap();
    let grants = all_grants(&load);
    load.connections = load.connections.of_tenant("default");
    match load.with(grants).await.map(|_| ()) {
        Err(LoadError::UnknownConnection { kind, name, configured }) => {
            assert_eq!((kind, name.as_str()), ("HTTP", "theirs"));
            assert_eq!(configured, ["nowhere"]);
        }
        other => panic!("{other:?}"),
    }
}
