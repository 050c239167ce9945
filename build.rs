//! Makes the messages and the gRPC stubs from `proto/` with nothing to install by hand: the pure
//! Rust parser reads the files, so no `protoc` is needed.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use protobuf::Message as _;
use protobuf2::Message as _;

const PROTOS: [&str; 2] = ["metrics.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("pb");
    fs::create_dir_all(&out)?;
    let inputs: Vec<String> = PROTOS.iter().map(|name| format!("proto/{name}")).collect();
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .inputs(&inputs)
        .out_dir(&out)
        .run_from_script();

    // grpcio's generator speaks protobuf 2, so the parsed descriptors go through their bytes.
    let parsed = protobuf_parse::Parser::new()
        .pure()
        .include("proto")
        .inputs(&inputs)
        .parse_and_typecheck()?;
    let mut set = protobuf::descriptor::FileDescriptorSet::new();
    set.file = parsed.file_descriptors;
    let set = protobuf2::descriptor::FileDescriptorSet::parse_from_bytes(&set.write_to_bytes()?)?;
    let names: Vec<String> = PROTOS.iter().map(ToString::to_string).collect();
    let mut modules = fs::read_to_string(out.join("mod.rs"))?;
    for file in grpcio_compiler::codegen::r#gen(set.get_file(), &names) {
        fs::write(out.join(&file.name), &file.content)?;
        let module = file.name.trim_end_matches(".rs");
        modules.push_str(&format!("\npub mod {module};\n"));
    }
    fs::write(out.join("mod.rs"), modules)?;
    Ok(())
}
