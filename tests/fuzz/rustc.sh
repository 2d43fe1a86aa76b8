#!/bin/sh
# Compiles the engine for libFuzzer, with counters and compares, and optimizes it and the targets.
# What they depend on is compiled as ever, so that it is compiled once for this and `cargo test`.
# Cargo calls this for the packages of the workspace: rustc is the first argument.
rustc="$1"
shift
case " $* " in
*" --crate-name peristyle "*)
    set -- "$@" -C passes=sancov-module \
        -C llvm-args=-sanitizer-coverage-level=3 \
        -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
        -C llvm-args=-sanitizer-coverage-pc-table \
        -C llvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$rustc" "$@" -C opt-level=3
