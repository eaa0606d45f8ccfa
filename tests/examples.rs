//! The lessons in `examples/` hold what they promise.

#[path = "../examples/01_builder.rs"]
mod builder;
#[path = "../examples/04_first_call_vs_steady.rs"]
mod first_call_vs_steady;
#[path = "../examples/02_fusion_on_off.rs"]
mod fusion_on_off;
#[path = "../examples/05_nest_as_text.rs"]
mod nest_as_text;
#[path = "../examples/06_sessions.rs"]
mod sessions;
#[path = "../examples/03_watch_the_passes.rs"]
mod watch_the_passes;

macro_rules! lessons {
    ($($name:ident),*) => { $(
        #[test]
        fn $name() {
            super::$name::main().unwrap();
        }
    )* };
}

mod lessons {
    lessons!(builder, fusion_on_off, watch_the_passes, first_call_vs_steady, nest_as_text, sessions);
}

#[test]
fn every_example_is_a_lesson_here() {
    let here = include_str!("examples.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(here.contains(&format!("../examples/{name}")), "{name} is not run");
    }
}
