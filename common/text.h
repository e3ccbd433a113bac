/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/text.h - bytes made fit for people and for JSON, and back.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

/* True when b is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool text_is_utf8(struct bytes b);

/*
 * Append b in printable form: well-formed UTF-8 passes, control bytes, DEL and every byte
 * that is not part of a well-formed sequence become \xNN, a backslash is doubled.
 */
int text_escape(struct buf *out, struct bytes b) _must_check_;

/*
 * The same into a fixed buffer for messages: always NUL-terminated, cut with "..." when it
 * does not fit.  Returns out.
 */
#define TEXT_NAME_MAX 512
const char *text_name(char out[TEXT_NAME_MAX], struct bytes b);

/* Append b in base64 (RFC 4648 section 4, with padding). */
int text_base64(struct buf *out, struct bytes b) _must_check_;

/*
 * Append b as a JSON string with its quotes.  Well-formed UTF-8 keeps its characters,
 * control bytes and DEL written as \u00NN; when b is not well-formed the string holds what
 * text_escape() makes of it.
 */
int text_json(struct buf *out, struct bytes b) _must_check_;

/*
 * Append "path":"..." and, when path is not well-formed UTF-8, ,"path_base64":"..." with its
 * very bytes: without the second member the first one is exact.
 */
int text_json_path(struct buf *out, struct bytes path) _must_check_;

/*
 * A size with an optional suffix K M G T (powers of 1024, as rsync takes them; "KB" "MB"
 * are powers of 1000, "KiB" of 1024).  Decimal fractions are taken.  -ERR_USAGE otherwise.
 */
int text_parse_size(const char *s, uint64_t *ret, struct err *e) _must_check_;

/* "1.2 GiB" and the like, for people; out holds 32 bytes.  Returns out. */
const char *text_size(char out[32], uint64_t bytes);

/* "01:02:03" of seconds; out holds 32 bytes.  Returns out. */
const char *text_duration(char out[32], double seconds);

/* "2026-01-02T03:04:05Z" of epoch seconds; out holds 32 bytes.  Returns out. */
const char *text_utc(char out[32], int64_t epoch_s);

/* The same in local time with its offset, "2026-01-02T11:04:05+08:00".  Returns out. */
const char *text_local(char out[32], int64_t epoch_s);
