/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/bigfile.h"
#include "stager/job.h"
#include "transport/blocks.h"

#define LEAF ((uint64_t)TP_LEAF_BYTES)

struct fixture {
	struct stg_bigfile *b;
	int fd; /* the source, a second descriptor */
};

static int scratch(void)
{
	char path[] = "/var/tmp/test_bigfile.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

/* Data in leaves 0, 1 and 4 of five, the last one short. */
static int setup(void **state)
{
	struct stg_item item = { .op = STG_OP_SEND, .path = { (const uint8_t *)"dir", 3 },
				 .name = { (const uint8_t *)"name", 4 } };
	struct fixture *f = calloc(1, sizeof(*f));
	struct stg_stat st = { .mode = S_IFREG | 0600, .size = 4 * LEAF + 100 };
	char temp[TP_TEMP_MAX + 1];
	struct err e;

	assert_non_null(f);
	f->fd = scratch();
	assert_int_equal(ftruncate(f->fd, (off_t)st.size), 0);
	assert_int_equal(pwrite(f->fd, "a", 1, 0), 1);
	assert_int_equal(pwrite(f->fd, "b", 1, (off_t)(2 * LEAF - 1)), 1);
	assert_int_equal(pwrite(f->fd, "c", 1, (off_t)(4 * LEAF + 50)), 1);
	item.st = st;
	stg_bigfile_name(0xab, 7, temp);
	assert_int_equal(stg_bigfile_new(dup(f->fd), &item, &st, temp, false, &f->b, &e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stg_bigfile_unref(f->b);
	close(f->fd);
	free(f);
	return 0;
}

static struct stg_big_claim claim(struct fixture *f, enum stg_big_work want, uint64_t index)
{
	struct stg_big_claim c;

	stg_bigfile_claim(f->b, &c);
	assert_int_equal(c.work, want);
	assert_int_equal(c.index, index);
	if (want == STG_BIG_SEND || want == STG_BIG_CHECK) {
		assert_true(c.off == index * LEAF);
		assert_true(c.bytes == tp_leaf_bytes(c.size, index));
	}
	return c;
}

static const struct tp_hash_value some = { .b = { 1 } }, other = { .b = { 2 } };

static bool done(struct fixture *f, const struct stg_big_claim *c)
{
	bool last = stg_bigfile_done(f->b, c, &some);

	assert_false(stg_bigfile_release(f->b));
	return last;
}

static void each_segment_with_data_is_claimed_once(void **state)
{
	struct fixture *f = *state;
	struct stg_big_claim a, b, c;

	assert_string_equal(stg_bigfile_temp(f->b), TP_TEMP_PREFIX "00000000000000ab.7");
	assert_true(stg_bigfile_claim(f->b, &a));
	assert_true(a.index == 0 && a.create);
	b = claim(f, STG_BIG_SEND, 1);
	assert_false(done(f, &a));
	/* Two of nothing but holes are left out, and the target has the file by now. */
	assert_false(stg_bigfile_claim(f->b, &c));
	assert_true(c.index == 4 && c.bytes == 100 && !c.create);
	claim(f, STG_BIG_NONE, 0);
	assert_false(done(f, &c));
	claim(f, STG_BIG_NONE, 0);
	assert_true(done(f, &b));
	a = claim(f, STG_BIG_FINISH, 0);
	claim(f, STG_BIG_NONE, 0);
	assert_false(stg_bigfile_ended(f->b));
	stg_bigfile_back(f->b, &a);
	assert_false(stg_bigfile_release(f->b));
	assert_true(stg_bigfile_ended(f->b));
	claim(f, STG_BIG_FINISH, 0);
}

static void what_was_given_back_is_claimed_again(void **state)
{
	struct fixture *f = *state;
	struct stg_big_claim a = claim(f, STG_BIG_SEND, 0);
	struct stg_big_claim b = claim(f, STG_BIG_SEND, 1);

	stg_bigfile_back(f->b, &b);
	stg_bigfile_back(f->b, &a);
	for (int i = 0; i < 3; i++) {
		a = claim(f, STG_BIG_SEND, 0);
		assert_true(stg_bigfile_again(f->b, &a));
	}
	a = claim(f, STG_BIG_SEND, 0);
	assert_false(stg_bigfile_again(f->b, &a));
	claim(f, STG_BIG_SEND, 0);
	claim(f, STG_BIG_SEND, 1);
	claim(f, STG_BIG_SEND, 4);
	claim(f, STG_BIG_NONE, 0);
}

static void send_all(struct fixture *f)
{
	struct stg_big_claim c;

	for (;;) {
		stg_bigfile_claim(f->b, &c);
		if (c.work == STG_BIG_FINISH)
			return;
		assert_int_not_equal(c.work, STG_BIG_NONE);
		done(f, &c);
	}
}

static void a_changed_source_is_compared_a_few_times(void **state)
{
	struct stg_stat st = { .mode = S_IFREG | 0600, .size = 2 * LEAF + 5 };
	struct fixture *f = *state;
	struct stg_big_claim c;

	send_all(f);
	/* Shorter, with a hole's place in its end: what was sent is compared, the rest is not. */
	assert_true(stg_bigfile_restart(f->b, &st));
	assert_false(stg_bigfile_release(f->b));
	for (uint64_t i = 0; i < 2; i++) {
		c = claim(f, STG_BIG_CHECK, i);
		assert_true(tp_hash_eq(&c.hash, &some));
		done(f, &c);
	}
	/* Long again: leaf 4 has something on the target. */
	claim(f, STG_BIG_FINISH, 0);
	st.size = 5 * LEAF;
	assert_true(stg_bigfile_restart(f->b, &st));
	stg_bigfile_release(f->b);
	for (uint64_t i = 0; i < 2; i++) {
		c = claim(f, STG_BIG_CHECK, i);
		done(f, &c);
	}
	c = claim(f, STG_BIG_CHECK, 4);
	done(f, &c);
	claim(f, STG_BIG_FINISH, 0);
	assert_true(stg_bigfile_restart(f->b, &st));
	stg_bigfile_release(f->b);
	send_all(f);
	assert_false(stg_bigfile_restart(f->b, &st));
	st.size = 0;
	assert_false(stg_bigfile_restart(f->b, &st));
}

static void the_hash_is_that_of_the_tree(void **state)
{
	struct fixture *f = *state;
	struct tp_hash_value got, want, zeros;
	struct stg_big_claim c;
	struct tp_hash *h;
	struct err e;

	assert_int_equal(tp_hash_new(&h, &e), 0);
	tp_hash_zeros(h, LEAF, &zeros);
	c = claim(f, STG_BIG_SEND, 0);
	stg_bigfile_done(f->b, &c, &some);
	/* Data that is zero is as good as a hole. */
	c = claim(f, STG_BIG_SEND, 1);
	stg_bigfile_done(f->b, &c, &zeros);
	c = claim(f, STG_BIG_SEND, 4);
	assert_true(stg_bigfile_done(f->b, &c, &other));
	assert_int_equal(stg_bigfile_hash(f->b, &got, &e), 0);
	tp_hash_reset(h);
	tp_hash_leaf(h, 0, &some);
	tp_hash_leaf(h, 4, &other);
	tp_hash_root(h, 4 * LEAF + 100, &want);
	assert_true(tp_hash_eq(&got, &want));
	tp_hash_free(h);
}

static void the_last_one_at_a_dead_file_removes_it(void **state)
{
	struct fixture *f = *state;

	claim(f, STG_BIG_SEND, 0);
	claim(f, STG_BIG_SEND, 1);
	assert_true(stg_bigfile_kill(f->b));
	assert_false(stg_bigfile_kill(f->b));
	claim(f, STG_BIG_NONE, 0);
	assert_false(stg_bigfile_release(f->b));
	assert_true(stg_bigfile_release(f->b));
}

static void jobs_outlive_the_caller(void **state)
{
	struct fixture *f = *state;
	struct stg_job *job;
	struct err e;

	assert_int_equal(stg_bigfile_job(f->b, &job, &e), 0);
	assert_int_equal(job->kind, STG_JOB_BIG);
	assert_int_equal(job->n, 1);
	assert_true(bytes_eq(job->items[0].name, bytes_str("name")));
	assert_true(bytes_eq(job->items[0].path, bytes_str("dir")));
	assert_true(job->content >= 4 * LEAF);
	stg_bigfile_unref(TAKE_PTR(f->b));
	assert_string_equal(stg_bigfile_temp(job->big), TP_TEMP_PREFIX "00000000000000ab.7");
	stg_job_free(job);
}

static struct stg_bigfile *with_basis(struct fixture *f, uint64_t bytes)
{
	struct stg_item item = { .op = STG_OP_UPDATE, .old_size = bytes,
				 .path = { (const uint8_t *)"", 0 },
				 .name = { (const uint8_t *)"name", 4 } };
	struct stg_stat st = { .mode = S_IFREG | 0600, .size = LEAF, .bytes_on_disk = LEAF };
	struct stg_bigfile *b;
	struct err e;

	assert_int_equal(stg_bigfile_new(dup(f->fd), &item, &st, "t", false, &b, &e), 0);
	return b;
}

/* Sums of zeros; the last block may be a short one. */
static int answer(struct stg_bigfile *b, const struct stg_big_claim *c, struct err *e)
{
	struct buf sums = BUF_INIT;
	uint8_t *zeros = calloc(1, c->bytes);
	int r;

	assert_int_equal(tp_sums_make(bytes_of(zeros, c->bytes), c->block, &sums), 0);
	r = stg_bigfile_summed(b, c, buf_view(&sums), e);
	stg_bigfile_release(b);
	buf_fini(&sums);
	free(zeros);
	return r;
}

static void segments_wait_for_the_sums_of_the_basis(void **state)
{
	struct fixture *f = *state;
	struct stg_big_claim a, b, c;
	struct err e;

	for (int broken = 0; broken < 3; broken++) {
		struct stg_bigfile *big = with_basis(f, (19u << 20) + 5);

		assert_true(stg_bigfile_claim(big, &a));
		assert_int_equal(a.work, STG_BIG_SUMS);
		assert_true(a.size == (19u << 20) + 5 && a.block == tp_sums_block(a.size));
		assert_true(stg_bigfile_claim(big, &b));
		assert_false(stg_bigfile_claim(big, &c));
		assert_true(c.off + c.bytes == a.size);
		stg_bigfile_back(big, &b);
		stg_bigfile_release(big);
		stg_bigfile_claim(big, &b);
		assert_int_equal(b.index, 1);
		assert_int_equal(answer(big, &c, &e), 0);
		if (broken == 1) {
			/* Not there, or another size: it goes whole. */
			assert_int_equal(stg_bigfile_summed(big, &a, bytes_of(NULL, 0), &e), 0);
		} else if (broken == 2) {
			assert_int_equal(stg_bigfile_summed(big, &a, bytes_str("x"), &e),
					 -ERR_PROTOCOL);
			stg_bigfile_unref(big);
			break;
		} else {
			assert_int_equal(answer(big, &a, &e), 0);
		}
		stg_bigfile_claim(big, &c);
		assert_int_equal(c.work, STG_BIG_NONE);
		assert_int_equal(answer(big, &b, &e), 1);
		assert_int_equal(stg_bigfile_sums(big) != NULL, !broken);
		stg_bigfile_claim(big, &c);
		assert_int_equal(c.work, STG_BIG_SEND);
		assert_false(c.whole);
		assert_true(stg_bigfile_again(big, &c));
		stg_bigfile_claim(big, &c);
		assert_true(c.whole);
		stg_bigfile_unref(big);
	}
}

static void runs_of_data_are_cut_to_what_is_asked_for(void **state)
{
	struct fixture *f = *state;
	uint64_t from, to;

	assert_int_equal(stg_bigfile_data(f->b, LEAF, 2 * LEAF, &from, &to), 0);
	assert_true(from >= LEAF && from < to && to == 2 * LEAF);
	assert_int_equal(stg_bigfile_data(f->b, 2 * LEAF, 3 * LEAF, &from, &to), 0);
	assert_true(from == 3 * LEAF && to == 3 * LEAF);
	assert_int_equal(stg_bigfile_data(f->b, 0, 10, &from, &to), 0);
	assert_true(from == 0 && to == 10);
}

static void only_big_files_with_data_fit(void **state)
{
	static const struct {
		uint64_t size, on_disk;
		bool fits;
	} rows[] = {
		{ STG_BIG_BYTES, STG_BIG_BYTES, true },
		{ STG_BIG_BYTES - 1, STG_BIG_BYTES, false },
		{ 1ull << 40, 4096, false },
		{ 1ull << 40, STG_BIG_BYTES, true },
		{ STG_BIG_BYTES_MAX + 1, STG_BIG_BYTES_MAX, false },
		{ INT64_MAX, INT64_MAX, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct stg_stat st = { .size = rows[i].size, .bytes_on_disk = rows[i].on_disk };

		assert_int_equal(stg_bigfile_fits(&st), rows[i].fits);
	}
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ROW(each_segment_with_data_is_claimed_once),
		ROW(what_was_given_back_is_claimed_again),
		ROW(a_changed_source_is_compared_a_few_times),
		ROW(the_hash_is_that_of_the_tree),
		ROW(the_last_one_at_a_dead_file_removes_it),
		ROW(jobs_outlive_the_caller),
		ROW(segments_wait_for_the_sums_of_the_basis),
		ROW(runs_of_data_are_cut_to_what_is_asked_for),
		cmocka_unit_test(only_big_files_with_data_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
