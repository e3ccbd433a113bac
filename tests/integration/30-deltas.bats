#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Of a big file only what changed travels.

load lib

# Not compressible, so that what is saved is saved by the delta.
setup() {
	it_setup
	MIB=256
	[ "${STAGER_BIG:-0}" = 1 ] && MIB=1024
	head -c "${MIB}M" /dev/urandom >"$SRC/big"
}

wire_below_a_tenth() {
	local wire

	wire=$(wire_bytes)
	[ $((wire * 10)) -lt $((MIB << 20)) ] || fail "$wire bytes on the wire for $MIB MiB"
}

@test "one per cent of the pages changed in place: under a tenth on the wire" {
	sync_ok full
	python3 - "$SRC/big" <<'PY'
import os, random, sys
rng = random.Random(1)
with open(sys.argv[1], "r+b") as f:
    pages = os.fstat(f.fileno()).st_size // 4096
    for page in rng.sample(range(pages), pages // 100):
        f.seek(page * 4096)
        f.write(rng.randbytes(4096))
PY
	sync_ok incremental
	wire_below_a_tenth
	cmp "$SRC/big" "$DST/big"
	assert_same "$SRC" "$DST"
}

@test "ten bytes inserted at the front: under a tenth on the wire" {
	sync_ok full
	{ printf 0123456789; cat "$SRC/big"; } >"$SRC/new"
	mv "$SRC/new" "$SRC/big"
	sync_ok incremental
	wire_below_a_tenth
	cmp "$SRC/big" "$DST/big"
	assert_same "$SRC" "$DST"
}

@test "appended, cut and emptied files arrive as they are" {
	sync_ok full
	head -c 100000 /dev/urandom >>"$SRC/big"
	sync_ok incremental
	wire_below_a_tenth
	cmp "$SRC/big" "$DST/big"
	truncate -s 5000001 "$SRC/big"
	sync_ok incremental
	cmp "$SRC/big" "$DST/big"
	: >"$SRC/big"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}
