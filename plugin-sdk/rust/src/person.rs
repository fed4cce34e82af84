//! The person behind an enrollment.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::bindings::russet::plugin::context as host;

/// The person behind an enrollment, as a directory gave it.
///
/// ```
/// let ada = russet_plugin::Person::builder("uid=ada,dc=example", "ada").group("staff").build();
/// assert!(ada.is_member_of("Staff"));
/// ```
#[derive(Clone, Debug)]
pub struct Person(Source);

#[derive(Clone, Debug)]
enum Source {
    Host(Rc<host::Person>),
    Memory(Rc<Memory>),
}

#[derive(Clone, Debug, Default)]
struct Memory {
    id: String,
    user_name: String,
    full_name: Option<String>,
    email: Option<String>,
    groups: Vec<String>,
    attributes: BTreeMap<String, Vec<String>>,
}

impl From<host::Person> for Person {
    fn from(person: host::Person) -> Self {
        Self(Source::Host(Rc::new(person)))
    }
}

impl Person {
    /// A person in memory, for tests.
    pub fn builder(id: impl Into<String>, user_name: impl Into<String>) -> PersonBuilder {
        PersonBuilder(Memory {
            id: id.into(),
            user_name: user_name.into(),
            ..Memory::default()
        })
    }

    /// The directory's stable identifier, such as an LDAP distinguished name.
    pub fn id(&self) -> String {
        match &self.0 {
            Source::Host(person) => person.id(),
            Source::Memory(person) => person.id.clone(),
        }
    }

    /// The name that the person signs in with.
    pub fn user_name(&self) -> String {
        match &self.0 {
            Source::Host(person) => person.user_name(),
            Source::Memory(person) => person.user_name.clone(),
        }
    }

    /// The person's full name.
    pub fn full_name(&self) -> Option<String> {
        match &self.0 {
            Source::Host(person) => person.full_name(),
            Source::Memory(person) => person.full_name.clone(),
        }
    }

    /// The person's mail address.
    pub fn email(&self) -> Option<String> {
        match &self.0 {
            Source::Host(person) => person.email(),
            Source::Memory(person) => person.email.clone(),
        }
    }

    /// The names of the groups that the person belongs to, sorted.
    pub fn groups(&self) -> Vec<String> {
        match &self.0 {
            Source::Host(person) => person.groups(),
            Source::Memory(person) => person.groups.clone(),
        }
    }

    /// Whether the person belongs to a group. Case does not matter, as it does not in a directory.
    pub fn is_member_of(&self, group: &str) -> bool {
        let group = group.to_lowercase();
        self.groups().iter().any(|g| g.to_lowercase() == group)
    }

    /// The values of one attribute; empty if the person has none of that name.
    pub fn attribute(&self, name: &str) -> Vec<String> {
        match &self.0 {
            Source::Host(person) => person.attribute(name),
            Source::Memory(person) => person.attributes.get(name).cloned().unwrap_or_default(),
        }
    }

    /// All attributes, sorted by name.
    pub fn attributes(&self) -> Vec<(String, Vec<String>)> {
        match &self.0 {
            Source::Host(person) => person.attributes(),
            Source::Memory(person) => person.attributes.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }
}

/// Builds a [`Person`] in memory.
#[derive(Clone, Debug)]
pub struct PersonBuilder(Memory);

impl PersonBuilder {
    /// The full name.
    #[must_use]
    pub fn full_name(mut self, name: impl Into<String>) -> Self {
        self.0.full_name = Some(name.into());
        self
    }

    /// The mail address.
    #[must_use]
    pub fn email(mut self, email: impl Into<String>) -> Self {
        self.0.email = Some(email.into());
        self
    }

    /// One more group.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.0.groups.push(name.into());
        self.0.groups.sort();
        self
    }

    /// One more value of an attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.attributes.entry(name.into()).or_default().push(value.into());
        self
    }

    /// The person.
    pub fn build(self) -> Person {
        Person(Source::Memory(Rc::new(self.0)))
    }
}
