//! A configuration file, key by key.

use std::path::Path;

/// The keys of a configuration file, set by their dotted names.
#[derive(Clone, Debug, Default)]
pub struct Config(toml::Table);

impl Config {
    /// Sets a key such as `enrollment.without_gate`; what it was before is gone.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) -> &mut Self {
        let mut parts: Vec<&str> = key.split('.').collect();
        let last = parts.pop().expect("a key has a name");
        let mut table = &mut self.0;
        for part in parts {
            let section = table
                .entry(part)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table = section
                .as_table_mut()
                .expect("the parts of a key before its last are sections");
        }
        table.insert(last.to_owned(), value.into());
        self
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        let (section, last) = key.rsplit_once('.').expect("a key in a section");
        let table = section
            .split('.')
            .try_fold(&mut self.0, |table, part| table.get_mut(part)?.as_table_mut());
        if let Some(table) = table {
            table.remove(last);
        }
        self
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, toml::to_string(&self.0).expect("a table of TOML")).expect("the configuration is written");
    }
}
