#!/usr/bin/env python3
"""Writes what each daemon is made of, as CycloneDX 1.5: OUT/oxmon-agent.cdx.json and OUT/oxmon-server.cdx.json.

    scripts/sbom.py OUT [TARGET]          default: x86_64-unknown-linux-musl

Read from Cargo.lock by `cargo metadata`: the crates that are linked into each daemon, those that its build runs,
and the C and C++ libraries that such crates carry. The same commit gives the same bytes.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Crates that carry the source of another project: its name, and where its version is.
CARRIED = {"openssl-src": "openssl", "grpcio-sys": "grpc", "libsqlite3-sys": "sqlite", "zstd-sys": "zstd"}


def metadata(features, target):
    """What cargo resolves for one daemon."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target] + features
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def reached(graph, start):
    """Ids of what is linked or run at build time from a package on, with what each depends on."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    edges, todo = {}, [start]
    while todo:
        package = todo.pop()
        if package in edges:
            continue
        deps = nodes[package]["deps"]
        edges[package] = sorted(d["pkg"] for d in deps if any(k["kind"] != "dev" for k in d["dep_kinds"]))
        todo.extend(edges[package])
    return edges


def linked(graph, packages, start):
    """Ids of those whose code is in the program: what builds and what expands macros is not."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    found, todo = set(), [start]
    while todo:
        package = todo.pop()
        if package in found or any("proc-macro" in target["kind"] for target in packages[package]["targets"]):
            continue
        found.add(package)
        todo.extend(dep["pkg"] for dep in nodes[package]["deps"]
                    if any(kind["kind"] is None for kind in dep["dep_kinds"]))
    return found


def carried(package):
    """The library of another language within a crate."""
    name = CARRIED.get(package["name"])
    if name is None:
        return None
    version = package["version"].partition("+")[2]
    if name == "sqlite":
        header = pathlib.Path(package["manifest_path"]).parent / "sqlite3" / "sqlite3.h"
        found = re.search(r'#define SQLITE_VERSION\s+"([^"]+)"', header.read_text()) if header.exists() else None
        version = found.group(1) if found else ""
    version = version.partition("-")[0]
    return {"type": "library", "bom-ref": f"pkg:generic/{name}@{version}", "name": name, "version": version,
            "purl": f"pkg:generic/{name}@{version}"}


def component(package, sums, is_linked):
    """A crate; its scope is `excluded` where it only builds."""
    name, version = package["name"], package["version"]
    purl = f"pkg:cargo/{name}@{version}".replace("+", "%2B")
    made = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if package.get("license"):
        # `MIT/Apache-2.0` is how old crates write OR.
        made["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
    if (name, version) in sums:
        made["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package.get("repository"):
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    inner = carried(package)
    if inner:
        made["components"] = [inner]
    made["scope"] = "required" if is_linked or inner else "excluded"
    return made


def bom(program, features, target, sums):
    """The document of one daemon."""
    graph = metadata(features, target)
    packages = {package["id"]: package for package in graph["packages"]}
    start = next(package["id"] for package in graph["packages"] if package["name"] == "oxmon")
    edges = reached(graph, start)
    inside = linked(graph, packages, start)
    made = {identity: component(packages[identity], sums, identity in inside) for identity in edges}
    ref = {identity: crate["bom-ref"] for identity, crate in made.items()}
    version = packages[start]["version"]
    ref[start] = f"pkg:generic/{program}@{version}"
    components = [crate for identity, crate in made.items() if identity != start]
    made = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": ref[start], "name": program, "version": version,
                          "purl": ref[start], "licenses": [{"expression": packages[start]["license"]}]},
            "properties": [{"name": "oxmon:target", "value": target}],
        },
        "components": sorted(components, key=lambda made: made["bom-ref"]),
        "dependencies": sorted(({"ref": ref[identity], "dependsOn": sorted(ref[dep] for dep in deps)}
                                for identity, deps in edges.items()), key=lambda made: made["ref"]),
    }
    text = json.dumps(made, sort_keys=True)
    return {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}", **made}


def main():
    """Writes both."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: scripts/sbom.py OUT [TARGET]")
    out = pathlib.Path(sys.argv[1])
    target = sys.argv[2] if len(sys.argv) == 3 else "x86_64-unknown-linux-musl"
    out.mkdir(parents=True, exist_ok=True)
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    sums = {(package["name"], package["version"]): package["checksum"]
            for package in lock["package"] if "checksum" in package}
    for program, features in (("oxmon-agent", ["--no-default-features", "--features", "agent,vendored"]),
                              ("oxmon-server", ["--features", "vendored"])):
        made = bom(program, features, target, sums)
        path = out / f"{program}.cdx.json"
        path.write_text(json.dumps(made, indent=2, sort_keys=True) + os.linesep)
        print(f"sbom: {path}: {len(made['components'])} crates")


main()
