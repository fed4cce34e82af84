//! The template engine, with what a profile needs and nothing else: fewer functions make a smaller component that starts
//! faster. There is no `safe` filter: a value in the wrong place stays harmless unless a whole block asks for it unescaped.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, filters, functions, tests};

/// The most instructions of a template. A profile of a hundred payloads takes a few thousand.
const FUEL: u64 = 200_000;

pub(crate) fn new<'a>() -> Environment<'a> {
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    engine.set_auto_escape_callback(|_| AutoEscape::Html);
    engine.set_fuel(Some(FUEL));
    // Errors then know the place that they happened at.
    engine.set_debug(true);

    engine.add_filter("capitalize", filters::capitalize);
    engine.add_filter("count", filters::length);
    engine.add_filter("d", filters::default);
    engine.add_filter("default", filters::default);
    engine.add_filter("e", filters::escape);
    engine.add_filter("escape", filters::escape);
    engine.add_filter("first", filters::first);
    engine.add_filter("int", filters::int);
    engine.add_filter("items", filters::items);
    engine.add_filter("join", filters::join);
    engine.add_filter("last", filters::last);
    engine.add_filter("length", filters::length);
    engine.add_filter("lower", filters::lower);
    engine.add_filter("replace", filters::replace);
    engine.add_filter("sort", filters::sort);
    engine.add_filter("split", filters::split);
    engine.add_filter("string", filters::string);
    engine.add_filter("trim", filters::trim);
    engine.add_filter("unique", filters::unique);
    engine.add_filter("upper", filters::upper);

    engine.add_test("defined", tests::is_defined);
    engine.add_test("endingwith", tests::is_endingwith);
    engine.add_test("in", tests::is_in);
    engine.add_test("mapping", tests::is_mapping);
    engine.add_test("none", tests::is_none);
    engine.add_test("number", tests::is_number);
    engine.add_test("sequence", tests::is_sequence);
    engine.add_test("startingwith", tests::is_startingwith);
    engine.add_test("string", tests::is_string);
    engine.add_test("undefined", tests::is_undefined);

    engine.add_function("range", functions::range);
    engine
}
