/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * config/option_parts.h - what the files behind config/option.h share; nobody else includes it.
 *
 * option.c decides who speaks: command line, environment, levels.  option_file.c reads the
 * config file.  option_value.c turns the text of one value into the value.  option_help.c
 * prints the table.
 */
#include "config/option.h"

/* One setting of argv. */
struct cfg_setting {
	const struct cfg_row *row;
	const char *value; /* NULL: takes none */
};

/* ---- option.c ---- */

/* Apply one value; text is NULL for what takes none.  The error does not say who asked. */
int cfg_apply(struct cfg_parse *p, const struct cfg_row *row, enum cfg_level level,
	      const char *text, const char *origin, struct err *e) _must_check_;

/* words, separated by blanks, contain word. */
bool cfg_has_word(const char *words, const char *word);

/* One of commands takes the option; else the program does not have it. */
bool cfg_row_exists(const struct cfg_row *row, const struct cfg_command *commands);

/* ---- option_value.c ---- */

enum cfg_shape cfg_shape_of(const struct cfg_row *row); /* never CFG_BY_TYPE */

/* ---- option_file.c ---- */

/* Read the file that --config names, or the default one where there is one. */
int cfg_apply_file(struct cfg_parse *p, struct err *e) _must_check_;

/* ---- option_help.c ---- */

/* Append to out what --help prints for command, for all of them with NULL.  0 or -ENOMEM. */
int cfg_put_help(const struct cfg_parse *p, const struct cfg_command *command,
		 struct buf *out) _must_check_;
