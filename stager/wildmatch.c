/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/wildmatch.h"

#include "common/macro.h"

/*
 * The matcher walks pattern and text once and remembers the last place where it may take
 * more: one for a single star, one for a double star.  Older places need no memory: what an
 * earlier star could add, the later one can add as well, except across a slash, and there
 * only a double star helps.
 */

enum outcome {
	MISS,
	HIT,
	NEVER, /* the pattern is malformed from here on: no other road leads to a match */
};

#define IN(c, lo, hi) ((c) >= (lo) && (c) <= (hi))

static bool is_upper(uint8_t c)
{
	return IN(c, 'A', 'Z');
}

static bool is_lower(uint8_t c)
{
	return IN(c, 'a', 'z');
}

static bool is_digit(uint8_t c)
{
	return IN(c, '0', '9');
}

static bool is_alpha(uint8_t c)
{
	return is_upper(c) || is_lower(c);
}

static bool is_alnum(uint8_t c)
{
	return is_alpha(c) || is_digit(c);
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static bool is_cntrl(uint8_t c)
{
	return c < 0x20 || c == 0x7f;
}

static bool is_graph(uint8_t c)
{
	return IN(c, 0x21, 0x7e);
}

static bool is_print(uint8_t c)
{
	return IN(c, 0x20, 0x7e);
}

static bool is_punct(uint8_t c)
{
	return is_graph(c) && !is_alnum(c);
}

static bool is_space(uint8_t c)
{
	return c == ' ' || IN(c, '\t', '\r');
}

static bool is_xdigit(uint8_t c)
{
	return is_digit(c) || IN(c, 'a', 'f') || IN(c, 'A', 'F');
}

/* Own ASCII tests: a locale must not change what is selected. */
static const struct {
	const char *name;
	bool (*has)(uint8_t c);
} named_sets[] = {
	{ "alnum", is_alnum }, { "alpha", is_alpha }, { "blank", is_blank },
	{ "cntrl", is_cntrl }, { "digit", is_digit }, { "graph", is_graph },
	{ "lower", is_lower }, { "print", is_print }, { "punct", is_punct },
	{ "space", is_space }, { "upper", is_upper }, { "xdigit", is_xdigit },
};

static enum outcome match_named(struct bytes name, uint8_t c)
{
	for (size_t i = 0; i < ARRAY_SIZE(named_sets); i++)
		if (bytes_eq(name, bytes_str(named_sets[i].name)))
			return named_sets[i].has(c) ? HIT : MISS;
	return NEVER;
}

/*
 * A "[:name:]" at *at, which is left on its last byte.  Returns false when it is no such
 * thing and '[' is an ordinary member of the set.
 */
static bool take_named(struct bytes p, size_t *at, uint8_t c, enum outcome *ret)
{
	size_t from = *at + 2;
	const uint8_t *end;
	size_t n;

	if (from > p.n || p.p[*at + 1] != ':')
		return false;
	end = from < p.n ? memchr(p.p + from, ']', p.n - from) : NULL;
	if (!end) {
		*ret = NEVER;
		return true;
	}
	n = (size_t)(end - (p.p + from));
	if (n == 0 || end[-1] != ':')
		return false;
	*ret = match_named(bytes_of(p.p + from, n - 1), c);
	*at = from + n;
	return true;
}

/* The set whose '[' is at *at, which is left behind its ']'. */
static enum outcome match_set(struct bytes p, size_t *at, uint8_t c)
{
	size_t i = *at + 1;
	bool negated = false, found = false;
	int prev = -1; /* the byte that a '-' would make a range of */
	bool first = true;

	if (i < p.n && (p.p[i] == '!' || p.p[i] == '^')) {
		negated = true;
		i++;
	}
	for (;; i++) {
		enum outcome o;

		if (i >= p.n)
			return NEVER;
		/* The very first byte is a member, even when it is ']'. */
		if (p.p[i] == ']' && !first)
			break;
		first = false;
		if (p.p[i] == '\\') {
			if (++i >= p.n)
				return NEVER;
			found |= c == p.p[i];
			prev = p.p[i];
		} else if (p.p[i] == '-' && prev > 0 && i + 1 < p.n && p.p[i + 1] != ']') {
			if (p.p[++i] == '\\' && ++i >= p.n)
				return NEVER;
			found |= c >= prev && c <= p.p[i];
			prev = -1;
		} else if (p.p[i] == '[' && take_named(p, &i, c, &o)) {
			if (o == NEVER)
				return NEVER;
			found |= o == HIT;
			prev = -1;
		} else {
			found |= c == p.p[i];
			prev = p.p[i];
		}
	}
	*at = i + 1;
	return found != negated && c != '/' ? HIT : MISS;
}

/* One element, which is no star, against one byte; *at moves behind the element. */
static enum outcome match_one(struct bytes p, size_t *at, uint8_t c)
{
	switch (p.p[*at]) {
	case '[':
		return match_set(p, at, c);
	case '?':
		*at += 1;
		return c != '/' ? HIT : MISS;
	case '\\':
		if (*at + 1 == p.n)
			return NEVER;
		*at += 2;
		return c == p.p[*at - 1] ? HIT : MISS;
	default:
		*at += 1;
		return c == p.p[*at - 1] ? HIT : MISS;
	}
}

/* Where a star may take one more byte, and how the pattern goes on behind it. */
struct retry {
	bool set;
	size_t pattern;
	size_t text;
};

bool stg_wildmatch(struct bytes p, const struct stg_wild_text *t, size_t off)
{
	const size_t n = stg_wild_text_n(t);
	struct retry star = { 0 }, stars = { 0 };
	size_t i = off, j = 0;

	for (;;) {
		enum outcome o = MISS;

		if (j < p.n && p.p[j] == '*') {
			struct retry here = { .set = true, .text = i };
			size_t first = j;

			while (j < p.n && p.p[j] == '*')
				j++;
			here.pattern = j;
			if (j - first == 1) {
				star = here;
				continue;
			}
			if (j == p.n)
				return true;
			stars = here;
			star.set = false;
			continue;
		}
		if (i == n) {
			/* Other roads have even less text left for what the pattern needs. */
			return j == p.n;
		}
		if (j < p.n)
			o = match_one(p, &j, stg_wild_text_at(t, i));
		if (o == HIT) {
			i++;
			continue;
		}
		if (o == NEVER)
			return false;
		if (star.set && stg_wild_text_at(t, star.text) != '/') {
			i = ++star.text;
			j = star.pattern;
		} else if (stars.set) {
			i = ++stars.text;
			j = stars.pattern;
			star.set = false;
		} else {
			return false;
		}
	}
}
