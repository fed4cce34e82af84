//! The binary `russet`: a thin shell over the command line.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
