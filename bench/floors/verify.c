/* The floor of verification: read every entry, hash its content, its link and the Merkle tree, in C.
 *
 * cc -O2 -w -o verify bench/floors/verify.c -lsqlite3 -lcrypto && ./verify STORE
 *
 * Prints SIZE:ROOT, or what did not match. The query columns are not compared. */
#include <openssl/sha.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static unsigned char peaks[64][32];
static int peak_count;
static uint64_t size;

static void put64(unsigned char *to, uint64_t value) {
  for (int at = 7; at >= 0; at--, value >>= 8) to[at] = (unsigned char)value;
}

static void node(const unsigned char *left, const unsigned char *right, unsigned char *into) {
  unsigned char bytes[65] = {1};
  memcpy(bytes + 1, left, 32);
  memcpy(bytes + 33, right, 32);
  SHA256(bytes, 65, into);
}

static void append(const unsigned char *leaf) {
  unsigned char hash[32];
  memcpy(hash, leaf, 32);
  for (uint64_t rest = size++; rest & 1; rest >>= 1) node(peaks[--peak_count], hash, hash);
  memcpy(peaks[peak_count++], hash, 32);
}

static int same(const unsigned char *hash, sqlite3_stmt *row, int column) {
  const void *stored = sqlite3_column_blob(row, column);
  return stored != NULL && sqlite3_column_bytes(row, column) == 32 && memcmp(hash, stored, 32) == 0;
}

static void length_and_bytes(SHA256_CTX *hash, sqlite3_stmt *row, int column) {
  unsigned char length[8];
  int bytes = sqlite3_column_bytes(row, column);
  put64(length, (uint64_t)bytes);
  SHA256_Update(hash, length, 8);
  SHA256_Update(hash, sqlite3_column_blob(row, column), (size_t)bytes);
}

int main(int count, char **arguments) {
  sqlite3 *store;
  sqlite3_stmt *row;
  unsigned char entry[111] = "\0ccn.entry/1\n", previous[32] = {0}, hash[32];
  if (count != 2 || sqlite3_open_v2(arguments[1], &store, SQLITE_OPEN_READONLY, NULL)) return 2;
  if (sqlite3_prepare_v2(store, "SELECT store_id FROM log", -1, &row, NULL)) return 2;
  if (sqlite3_step(row) != SQLITE_ROW) return 2;
  memcpy(entry + 13, sqlite3_column_blob(row, 0), 16);
  sqlite3_finalize(row);
  const char *sql = "SELECT seq, time, kind, leaf, commitment, salt, body, blob FROM entry ORDER BY seq";
  if (sqlite3_prepare_v2(store, sql, -1, &row, NULL)) return 2;
  while (sqlite3_step(row) == SQLITE_ROW) {
    if (sqlite3_column_type(row, 6) != SQLITE_NULL) {
      SHA256_CTX content;
      SHA256_Init(&content);
      SHA256_Update(&content, "ccn.commit/1\n", 13);
      SHA256_Update(&content, sqlite3_column_blob(row, 5), 16);
      length_and_bytes(&content, row, 6);
      length_and_bytes(&content, row, 7);
      SHA256_Final(hash, &content);
      if (!same(hash, row, 4)) return printf("content of entry %llu\n", (unsigned long long)size), 1;
    }
    put64(entry + 29, (uint64_t)sqlite3_column_int64(row, 0));
    put64(entry + 37, (uint64_t)sqlite3_column_int64(row, 1));
    int kind = sqlite3_column_int(row, 2);
    entry[45] = (unsigned char)(kind >> 8);
    entry[46] = (unsigned char)kind;
    memcpy(entry + 47, previous, 32);
    memcpy(entry + 79, sqlite3_column_blob(row, 4), 32);
    SHA256(entry, 111, previous);
    if (!same(previous, row, 3)) return printf("entry %llu\n", (unsigned long long)size), 1;
    append(previous);
  }
  if (!peak_count) return 2;
  memcpy(hash, peaks[peak_count - 1], 32);
  for (int at = peak_count - 2; at >= 0; at--) node(peaks[at], hash, hash);
  printf("%llu:", (unsigned long long)size);
  for (int at = 0; at < 32; at++) printf("%02x", hash[at]);
  printf("\n");
  return 0;
}
