//! Apache Kafka's jars, with which Kafka's own tool reads the segments that Headwater wrote.
//!
//! They lie in `kafka` in cargo's target folder and come from Maven Central; Maven resolves what else they need.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::console::say;
use crate::failure::Failure;
use crate::process;

/// One version, so that a run of the tests can be repeated.
const VERSION: &str = "4.3.0";

/// A Java class path that holds Kafka: the one named in the environment, or our own.
///
/// # Errors
///
/// [`Failure::Missing`] where there is no Java or no Maven, or Maven Central could not be reached.
pub(super) fn ensure(target: &Path) -> Result<String, Failure> {
    let named = env::var("HEADWATER_KAFKA_CLASSPATH").ok().filter(|it| !it.is_empty());
    let home = target.join("kafka");
    let class_path = named.unwrap_or_else(|| home.join("libs").join("*").display().to_string());
    if loads(&class_path) {
        return Ok(class_path);
    }
    let project = write_project(&home)?;
    let to = home.display();
    say(&format!("getting Kafka's jars from Maven Central into {to} (about 45 MB)"));
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(&project).args([
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        "-DoutputDirectory=libs",
    ]);
    process::run(&mut maven).map_err(|_| missing(&project))?;
    if loads(&class_path) { Ok(class_path) } else { Err(missing(&project)) }
}

fn missing(project: &Path) -> Failure {
    Failure::Missing {
        what: "Kafka's jars, with which tests read our segments (needs Java 17 and Maven)"
            .to_owned(),
        remedy: format!(
            "install a JDK and Maven, then: mvn -f {} dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libs",
            project.display()
        ),
    }
}

/// The project that Maven wants around a dependency.
fn write_project(home: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(home).map_err(Failure::io("create", home))?;
    let path = home.join("pom.xml");
    let text = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>headwater</groupId><artifactId>peers</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>\
         <version>{VERSION}</version></dependency></dependencies></project>\n"
    );
    fs::write(&path, text).map_err(Failure::io("write", &path))?;
    Ok(path)
}

fn loads(class_path: &str) -> bool {
    let version = ["org.apache.kafka.tools.DumpLogSegments", "--version"];
    process::succeeds(Command::new("java").args(["-cp", class_path]).args(version))
}
