//! A node's attributes: found by name, checked for their type, references to a function's attributes followed.

use std::cell::RefCell;

use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use super::scope::Scope;
use crate::error::{Error, Result};

/// The attributes of a node, and which of them have been looked at.
pub(super) struct Attributes<'a> {
    list: Vec<(&'a str, &'a AttributeProto)>,
    read: RefCell<Vec<&'static str>>,
}

impl<'a> Attributes<'a> {
    /// Of a node in a scope.
    pub fn new(node: &'a NodeProto, scope: &'a Scope<'_>) -> Result<Attributes<'a>> {
        let mut list: Vec<(&str, &AttributeProto)> = Vec::with_capacity(node.attribute.len());
        for attribute in &node.attribute {
            let name = attribute.name();
            if list.iter().any(|(other, _)| *other == name) {
                return Err(Error::invalid(format!(
                    "the attribute '{}' is given twice",
                    name.escape_debug()
                )));
            }
            // A reference to an attribute that the caller did not give, and that has no default, is none.
            match attribute.ref_attr_name() {
                "" => list.push((name, attribute)),
                outer => list.extend(scope.attributes.get(outer).map(|value| (name, value))),
            }
        }
        Ok(Attributes { list, read: RefCell::default() })
    }

    /// The attributes and their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a AttributeProto)> {
        self.list.iter().copied()
    }

    /// An error if there is an attribute that nothing has looked at: to ignore it could be wrong.
    pub fn expect_all_read(&self) -> Result<()> {
        let read = self.read.borrow();
        match self.list.iter().find(|(name, _)| !read.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Error::unsupported(format!("the attribute '{}' is not supported", name.escape_debug())))
            }
        }
    }

    /// Says that attributes have no influence on what is computed.
    pub fn ignore(&self, names: &[&'static str]) {
        self.read.borrow_mut().extend(names);
    }

    /// Whether the attribute is given.
    pub fn has(&self, name: &'static str) -> bool {
        self.ignore(&[name]);
        self.list.iter().any(|(other, _)| *other == name)
    }

    fn get(&self, name: &'static str, wanted: AttributeType) -> Result<Option<&'a AttributeProto>> {
        self.ignore(&[name]);
        let Some((_, attribute)) = self.list.iter().find(|(other, _)| *other == name) else {
            return Ok(None);
        };
        // The first file format versions did not require the type to be stated.
        if attribute.r#type() != wanted && attribute.r#type() != AttributeType::Undefined {
            return Err(Error::invalid(format!(
                "the attribute '{name}' is of type {}, not {}",
                attribute.r#type().as_str_name(),
                wanted.as_str_name()
            )));
        }
        Ok(Some(attribute))
    }

    pub fn int(&self, name: &'static str) -> Result<Option<i64>> {
        Ok(self.get(name, AttributeType::Int)?.map(AttributeProto::i))
    }

    pub fn float(&self, name: &'static str) -> Result<Option<f64>> {
        Ok(self.get(name, AttributeType::Float)?.map(|a| f64::from(a.f())))
    }

    pub fn string(&self, name: &'static str) -> Result<Option<&'a str>> {
        let text = self.get(name, AttributeType::String)?.map(AttributeProto::s);
        text.map(|s| utf8(name, s)).transpose()
    }

    pub fn ints(&self, name: &'static str) -> Result<Option<&'a [i64]>> {
        Ok(self.get(name, AttributeType::Ints)?.map(|a| a.ints.as_slice()))
    }

    pub fn floats(&self, name: &'static str) -> Result<Option<Vec<f64>>> {
        let floats = self.get(name, AttributeType::Floats)?;
        Ok(floats.map(|a| a.floats.iter().map(|v| f64::from(*v)).collect()))
    }

    pub fn strings(&self, name: &'static str) -> Result<Option<Vec<&'a str>>> {
        let strings = self.get(name, AttributeType::Strings)?;
        strings.map(|a| a.strings.iter().map(|s| utf8(name, s)).collect()).transpose()
    }

    pub fn tensor(&self, name: &'static str) -> Result<Option<&'a TensorProto>> {
        Ok(self.get(name, AttributeType::Tensor)?.and_then(|a| a.t.as_ref()))
    }

    pub fn graph(&self, name: &'static str) -> Result<&'a GraphProto> {
        let graph = self.get(name, AttributeType::Graph)?.and_then(|a| a.g.as_ref());
        graph.ok_or_else(|| Error::invalid(format!("the attribute '{name}' is missing")))
    }
}

fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| Error::invalid(format!("the attribute '{name}' is not UTF-8")))
}
