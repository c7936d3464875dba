//! placeholder
#![allow(missing_docs)]
use crate::core::drain;
#[derive(Debug, Default, Clone)]
pub struct State {
    pub drains: Vec<KeptDrain>,
    pub registrations: Vec<Registration>,
}
#[derive(Debug, Clone)]
pub struct KeptDrain {
    pub pool: String,
    pub backend: String,
    pub drain: Drain,
}
#[derive(Debug, Clone)]
pub struct Registration {
    pub pool: String,
    pub name: String,
    pub address: String,
    pub weight: u32,
}
#[derive(Debug, Clone)]
pub struct Drain(drain::Order);
impl Drain {
    pub fn order(&self) -> drain::Order {
        self.0.clone()
    }
}
impl From<&drain::Drain> for Drain {
    fn from(d: &drain::Drain) -> Self {
        Drain(drain::Order {
            actor: d.actor,
            id: d.id.clone(),
            reason: d.reason.clone(),
            deadline: d.deadline,
            until: d.until,
            expires: d.expires,
        })
    }
}
pub fn load(_d: &std::path::Path) -> Result<State, std::io::Error> {
    Ok(State::default())
}
pub fn save(_d: &std::path::Path, _s: &State) -> Result<(), std::io::Error> {
    Ok(())
}
