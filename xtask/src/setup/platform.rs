//! Which packages bring a tool on this system, and whether we may install them.
//!
//! # Invariants
//!
//! - Nobody is asked for a password: where one would be needed, the command is printed instead.

use std::env;
use std::fs;
use std::process::Command;

use crate::console::say;
use crate::failure::Failure;
use crate::process;

/// Something a build or a test needs from the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// Compiles RocksDB.
    CppCompiler,
    /// Reads RocksDB's headers.
    Libclang,
    /// Counts instructions.
    Valgrind,
    /// Makes the environment that pip installs into.
    PythonVenv,
}

impl Tool {
    /// What it is and what for.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::CppCompiler => "a C++ compiler (compiles RocksDB)",
            Self::Libclang => "libclang and its headers (generates RocksDB's bindings)",
            Self::Valgrind => "valgrind (counts the instructions of hot loops)",
            Self::PythonVenv => "python3 with venv (tests read Parquet files with it)",
        }
    }

    /// What to do where it is installed and still not found.
    pub(super) fn how_to_point_at_it(self) -> &'static str {
        match self {
            Self::CppCompiler => "export CXX=/path/to/c++",
            Self::Libclang => "export LIBCLANG_PATH=/folder/with/libclang",
            Self::Valgrind | Self::PythonVenv => "export PATH=/folder/with/it:$PATH",
        }
    }
}

/// The families of systems whose packages we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    /// Debian, Ubuntu and what follows them.
    Debian,
    /// Fedora, RHEL and what follows them.
    Fedora,
    /// Arch and what follows it.
    Arch,
    /// macOS, with Homebrew.
    Macos,
    /// Any other.
    Unknown,
}

impl Platform {
    /// The system that this runs on.
    pub(super) fn here() -> Self {
        if cfg!(target_os = "macos") {
            return Self::Macos;
        }
        Self::from_os_release(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// Read off `ID` and `ID_LIKE` of `/etc/os-release`.
    fn from_os_release(text: &str) -> Self {
        let values = text
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
        for word in values.flat_map(|it| it.trim_matches('"').split_whitespace()) {
            match word {
                "debian" | "ubuntu" => return Self::Debian,
                "fedora" | "rhel" | "centos" => return Self::Fedora,
                "arch" => return Self::Arch,
                _ => {}
            }
        }
        Self::Unknown
    }

    fn packages(self, tool: Tool) -> &'static [&'static str] {
        match (self, tool) {
            (Self::Debian | Self::Unknown, Tool::CppCompiler) => &["g++"],
            (Self::Debian | Self::Unknown, Tool::Libclang) => &["libclang-dev"],
            (Self::Debian | Self::Unknown, Tool::PythonVenv) => &["python3", "python3-venv"],
            (Self::Fedora, Tool::CppCompiler) => &["gcc-c++"],
            (Self::Fedora, Tool::Libclang) => &["clang-devel"],
            (Self::Arch, Tool::CppCompiler) => &["gcc"],
            (Self::Arch, Tool::Libclang) => &["clang"],
            (Self::Arch | Self::Macos, Tool::PythonVenv) => &["python"],
            (Self::Fedora, Tool::PythonVenv) => &["python3"],
            (Self::Macos, Tool::CppCompiler | Tool::Libclang | Tool::Valgrind) => &[],
            (_, Tool::Valgrind) => &["valgrind"],
        }
    }

    /// The line that installs these tools, typed by hand.
    fn command(self, tools: &[Tool]) -> String {
        let packages: Vec<&str> = tools.iter().flat_map(|it| self.packages(*it)).copied().collect();
        let packages = packages.join(" ");
        match self {
            Self::Debian => format!("sudo apt-get update && sudo apt-get install -y {packages}"),
            Self::Fedora => format!("sudo dnf install -y {packages}"),
            Self::Arch => format!("sudo pacman -S --needed {packages}"),
            // Apple's tools bring the compiler and libclang together.
            Self::Macos if packages.is_empty() => "xcode-select --install".to_owned(),
            Self::Macos => format!("xcode-select --install; brew install {packages}"),
            Self::Unknown => format!("your package manager, for what Debian calls: {packages}"),
        }
    }

    /// Installs the tools' packages.
    ///
    /// # Errors
    ///
    /// [`Failure::Missing`] with the command to type where we may not, or where it failed.
    pub(super) fn install(self, tools: &[Tool]) -> Result<(), Failure> {
        let what: Vec<&str> = tools.iter().map(|it| it.what()).collect();
        let missing = Failure::Missing { what: what.join(", "), remedy: self.command(tools) };
        let Some(rights) = (self == Self::Debian).then(Rights::here).flatten() else {
            return Err(missing);
        };
        let packages: Vec<&str> = tools.iter().flat_map(|it| self.packages(*it)).copied().collect();
        say(&format!("installing {} through apt", packages.join(", ")));
        // A mirror that does not answer need not stop the others: the installation tells.
        if process::run(&mut rights.apt_get(&["update", "-q"])).is_err() {
            say("apt's lists could not all be refreshed; using those there are");
        }
        let mut command = rights.apt_get(&["install", "-y", "-q", "--no-install-recommends"]);
        process::run(command.args(packages)).map_err(|_| missing)
    }
}

/// How we may install packages.
#[derive(Debug, Clone, Copy)]
enum Rights {
    Root,
    Sudo,
}

impl Rights {
    /// None where a password would be asked for.
    fn here() -> Option<Self> {
        let id = Command::new("id").arg("-u").output().ok()?;
        if id.stdout.trim_ascii() == b"0" {
            return Some(Self::Root);
        }
        process::succeeds(Command::new("sudo").args(["-n", "true"])).then_some(Self::Sudo)
    }

    fn apt_get(self, arguments: &[&str]) -> Command {
        let quiet = "DEBIAN_FRONTEND=noninteractive";
        let mut command = match self {
            Self::Root => Command::new("env"),
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "env"]);
                sudo
            }
        };
        command.args([quiet, "apt-get"]).args(arguments).current_dir(env::temp_dir());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_known_by_itself_or_by_what_it_follows() {
        let platform = Platform::from_os_release;
        assert_eq!(platform("NAME=\"Debian\"\nID=debian\n"), Platform::Debian);
        assert_eq!(platform("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Platform::Debian);
        assert_eq!(platform("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Platform::Fedora);
        assert_eq!(platform("ID=manjaro\nID_LIKE=arch\n"), Platform::Arch);
        assert_eq!(platform("VERSION_ID=3\nID=alpine\n"), Platform::Unknown);
        assert_eq!(platform(""), Platform::Unknown);
    }

    #[test]
    fn the_command_names_the_packages_of_the_platform() {
        let both = [Tool::CppCompiler, Tool::Libclang];
        let debian = Platform::Debian.command(&both);
        assert_eq!(debian, "sudo apt-get update && sudo apt-get install -y g++ libclang-dev");
        assert_eq!(Platform::Fedora.command(&both), "sudo dnf install -y gcc-c++ clang-devel");
        assert_eq!(Platform::Arch.command(&both), "sudo pacman -S --needed gcc clang");
        assert_eq!(Platform::Macos.command(&both), "xcode-select --install");
    }

    #[test]
    fn where_nothing_may_be_installed_the_command_is_the_error() {
        let failure = Platform::Arch.install(&[Tool::Valgrind]).unwrap_err();
        assert!(failure.text().unwrap().contains("sudo pacman -S --needed valgrind"));
        assert_eq!(failure.exit_code(), 1);
    }
}
