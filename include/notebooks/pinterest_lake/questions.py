"""The eight questions, as ten tables. Each is a function of clean tables; none sees a technical column.

Ties are all kept (rank, ordered by name), medians are exact, and what is unknown belongs to no group.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

POST_YEARS = (2018, 2022)
JOINING_YEARS = (2015, 2020)

_USERS_FIELDS = ["user_name", "age", "date_joined"]


def posts(pin: DataFrame, geo: DataFrame, user: DataFrame) -> DataFrame:
    """One narrow row for each post that has a pin: what all questions but the sixth need.

    Columns: category, poster_name, follower_count, country, post_year, age_group, year_joined; null where the
    post's geo or user record never came.
    """
    where = geo.select("ind", "country", F.year("timestamp").alias("post_year"))
    who = user.select(
        "ind", age_group(F.col("age")).alias("age_group"), F.year("date_joined").alias("year_joined")
    )
    return (
        pin
        .select("ind", "category", "poster_name", "follower_count")
        .join(where, on="ind", how="left")
        .join(who, on="ind", how="left")
        .drop("ind")
    )


def age_group(age: Column) -> Column:
    """The group of an age in years; null below 18 and when unknown."""
    return (
        F
        .when(age.between(18, 24), "18-24")
        .when(age.between(25, 35), "25-35")
        .when(age.between(36, 50), "36-50")
        .when(age > 50, "+50")
    )


def top_category_by_country(posts: DataFrame) -> DataFrame:
    """Q1: country, category, category_count."""
    return winners(counted(posts, "country", "category"), "country", "category_count")


def posts_by_category_and_year(posts: DataFrame) -> DataFrame:
    """Q2: post_year, category, category_count of each category in each year 2018 to 2022."""
    years = posts.where(F.col("post_year").between(*POST_YEARS))
    return ordered(counted(years, "post_year", "category"))


def top_category_by_year(posts: DataFrame) -> DataFrame:
    """Q2: post_year, category, category_count of the winner of each year."""
    return winners(posts_by_category_and_year(posts), "post_year", "category_count")


def top_poster_by_country(posts: DataFrame) -> DataFrame:
    """Q3: country, poster_name, follower_count; a poster's count is the largest on posts of that country."""
    known = _with_all(posts, "country", "poster_name", "follower_count")
    largest = known.groupBy("country", "poster_name").agg(F.max("follower_count").alias("follower_count"))
    return winners(largest, "country", "follower_count")


def top_country(posts: DataFrame) -> DataFrame:
    """Q3: country, follower_count of the country, or countries, with the most followed poster."""
    by_country = top_poster_by_country(posts).select("country", "follower_count").distinct()
    return winners(by_country, None, "follower_count")


def top_category_by_age_group(posts: DataFrame) -> DataFrame:
    """Q4: age_group, category, category_count."""
    return winners(counted(posts, "age_group", "category"), "age_group", "category_count")


def median_followers_by_age_group(posts: DataFrame) -> DataFrame:
    """Q5: age_group, median_follower_count."""
    return medians(posts, "age_group")


def users_joined_by_year(user: DataFrame) -> DataFrame:
    """Q6: year_joined, number_users_joined; a user is a name, an age and a joining date, not a post."""
    users = user.select(*_USERS_FIELDS).distinct().select(F.year("date_joined").alias("year_joined"))
    joined = users.where(F.col("year_joined").between(*JOINING_YEARS))
    return ordered(joined.groupBy("year_joined").agg(F.count("*").alias("number_users_joined")))


def median_followers_by_joining_year(posts: DataFrame) -> DataFrame:
    """Q7: year_joined, median_follower_count."""
    return medians(_joined(posts), "year_joined")


def median_followers_by_joining_year_and_age_group(posts: DataFrame) -> DataFrame:
    """Q8: age_group, year_joined, median_follower_count."""
    return medians(_joined(posts), "age_group", "year_joined")


def counted(posts: DataFrame, *groups: str) -> DataFrame:
    """Posts in each group whose names are all known, as category_count."""
    return _with_all(posts, *groups).groupBy(*groups).agg(F.count("*").alias("category_count"))


def winners(counts: DataFrame, group: str | None, measure: str) -> DataFrame:
    """The rows with the largest measure of each group, every tied one of them, in order."""
    best = Window.partitionBy(*[group] if group else [F.lit(0)]).orderBy(F.col(measure).desc())
    return ordered(counts.withColumn("_rank", F.rank().over(best)).where(F.col("_rank") == 1).drop("_rank"))


def medians(posts: DataFrame, *groups: str) -> DataFrame:
    """The exact median follower count of each group, as double: the mean of the two middle ones.

    Taken from the histogram of counts in decimals: a percentile of doubles would round the middle values of
    64 bits before it takes their mean.
    """
    known = _with_all(posts, *groups, "follower_count")
    histogram = known.groupBy(*groups, "follower_count").agg(F.count("*").alias("_posts"))
    group = Window.partitionBy(*groups)
    up_to = group.orderBy("follower_count").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    placed = histogram.select(
        *groups,
        F.col("follower_count").cast("decimal(20,0)").alias("_value"),
        F.sum("_posts").over(up_to).alias("_last"),
        (F.sum("_posts").over(up_to) - F.col("_posts") + 1).alias("_first"),
        F.sum("_posts").over(group).alias("_all"),
    )
    lower, upper = F.floor((F.col("_all") + 1) / 2), F.floor(F.col("_all") / 2) + 1
    value_at = [
        F.max(F.when(place.between(F.col("_first"), F.col("_last")), F.col("_value")))
        for place in (lower, upper)
    ]
    middle = placed.groupBy(*groups).agg(
        ((value_at[0] + value_at[1]) / 2).cast("double").alias("median_follower_count")
    )
    return ordered(middle)


def ordered(answer: DataFrame) -> DataFrame:
    """By all columns, the first one first, ascending; texts by code point."""
    return answer.orderBy(*answer.columns)


def _joined(posts: DataFrame) -> DataFrame:
    return posts.where(F.col("year_joined").between(*JOINING_YEARS))


def _with_all(frame: DataFrame, *names: str) -> DataFrame:
    return frame.where(reduce(lambda a, b: a & b, [F.col(name).isNotNull() for name in names]))
