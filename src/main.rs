fn main() -> std::process::ExitCode {
    waypost::cli::run()
}
