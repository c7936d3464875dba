//! Names of backends without a name in the file: each name stays with its address, at whatever position that stands.
//! If names depended only on the position, they would move with each line that is removed above, and a reload would
//! drain every backend below.

use std::collections::{HashMap, HashSet};

use super::{Address, Config, PoolConfig};

impl Config {
    /// Gives unnamed backends the names that `known` has for their addresses (pool, name, address): those of the
    /// running configuration, or of the drains that the last run kept. Names in the file are never changed; an
    /// unnamed backend at a new address gets the name of its position, or the first free `POOL-N`.
    pub fn keep_backend_names<'a>(
        &mut self,
        known: impl IntoIterator<Item = (&'a str, &'a str, &'a Address)>,
    ) {
        let mut by_pool: HashMap<&str, HashMap<&Address, &str>> = HashMap::new();
        for (pool, name, address) in known {
            by_pool.entry(pool).or_default().insert(address, name);
        }
        for pool in &mut self.pools {
            if let Some(known) = by_pool.get(pool.name.as_str()) {
                pool.keep_backend_names(known);
            }
        }
    }

    /// Returns the backends whose names a reload keeps, as arguments of [`Config::keep_backend_names`].
    pub fn unnamed_backends(&self) -> impl Iterator<Item = (&str, &str, &Address)> {
        self.pools.iter().flat_map(|pool| {
            let unnamed = pool.backends.iter().filter(|backend| !backend.named);
            unnamed.map(|backend| (pool.name.as_str(), backend.name.as_str(), &backend.address))
        })
    }
}

impl PoolConfig {
    fn keep_backend_names(&mut self, known: &HashMap<&Address, &str>) {
        let given = self.backends.iter().filter(|backend| backend.named);
        let mut taken: HashSet<String> = given.map(|backend| backend.name.clone()).collect();
        let mut newcomers = Vec::new();
        for (place, backend) in self.backends.iter_mut().enumerate() {
            if backend.named {
                continue;
            }
            match known.get(&backend.address) {
                Some(name) if taken.insert((*name).to_owned()) => {
                    backend.name = (*name).to_owned();
                }
                _ => newcomers.push(place),
            }
        }
        let mut free = 1;
        for place in newcomers {
            let mut name = self.backends[place].name.clone();
            while !taken.insert(name.clone()) {
                name = format!("{}-{free}", self.name);
                free += 1;
            }
            self.backends[place].name = name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{diff, parse};
    use super::*;
    use proptest::prelude::*;

    /// Returns a pool with these backends: each with a port, and a name if given.
    fn config(backends: &[(u16, Option<&str>)]) -> Config {
        let mut text =
            "[[listener]]\naddress = \"127.0.0.1:80\"\n[[pool]]\nname = \"app\"\n".to_owned();
        for (port, name) in backends {
            text.push_str(&format!(
                "[[pool.backend]]\naddress = \"127.0.0.1:{port}\"\n"
            ));
            if let Some(name) = name {
                text.push_str(&format!("name = \"{name}\"\n"));
            }
        }
        parse("x.toml", &text).unwrap().config
    }

    fn reloaded(running: &Config, backends: &[(u16, Option<&str>)]) -> Config {
        let mut config = config(backends);
        config.keep_backend_names(running.unnamed_backends());
        config
    }

    fn names(config: &Config) -> Vec<String> {
        let backends = config.pools[0].backends.iter();
        backends
            .map(|b| format!("{} {}", b.name, b.address))
            .collect()
    }

    #[test]
    fn removing_the_first_of_three_removes_that_one_alone() {
        let running = config(&[(1, None), (2, None), (3, None)]);
        let next = reloaded(&running, &[(2, None), (3, None)]);
        assert_eq!(names(&next), ["app-2 127.0.0.1:2", "app-3 127.0.0.1:3"]);
        assert_eq!(
            diff(&running, &next).to_string().lines().count(),
            1,
            "one backend leaves"
        );
    }

    #[test]
    fn a_reordered_list_changes_nothing() {
        let running = config(&[(1, None), (2, None), (3, Some("own"))]);
        let next = reloaded(&running, &[(3, Some("own")), (2, None), (1, None)]);
        assert!(diff(&running, &next).is_empty());
    }

    #[test]
    fn a_newcomer_takes_the_name_of_its_place_or_the_first_that_is_free() {
        let running = config(&[(1, None), (2, None), (3, None)]);
        let next = reloaded(&running, &[(9, None), (2, None), (3, None)]);
        assert_eq!(names(&next)[0], "app-1 127.0.0.1:9");
        let next = reloaded(&running, &[(2, None), (3, None), (9, None)]);
        assert_eq!(names(&next)[2], "app-1 127.0.0.1:9");
    }

    #[test]
    fn a_name_that_the_file_gives_is_never_changed() {
        let running = config(&[(1, None), (2, None)]);
        let next = reloaded(&running, &[(2, Some("app-1")), (1, None)]);
        assert_eq!(names(&next), ["app-1 127.0.0.1:2", "app-2 127.0.0.1:1"]);
    }

    proptest! {
        #[test]
        fn names_stay_unique_and_with_their_addresses(
            before in proptest::sample::subsequence((1u16..40).collect::<Vec<_>>(), 0..20).prop_shuffle(),
            after in proptest::sample::subsequence((1u16..40).collect::<Vec<_>>(), 0..20).prop_shuffle(),
        ) {
            let unnamed = |ports: &[u16]| ports.iter().map(|port| (*port, None)).collect::<Vec<_>>();
            let running = config(&unnamed(&before));
            let next = reloaded(&running, &unnamed(&after));
            let by_name: HashMap<_, _> = next.pools[0].backends.iter().map(|b| (&b.name, &b.address)).collect();
            prop_assert_eq!(by_name.len(), after.len());
            for (_, name, address) in running.unnamed_backends() {
                let now = next.pools[0].backends.iter().find(|b| b.address == *address);
                prop_assert!(now.is_none_or(|b| b.name == name));
            }
        }
    }
}
