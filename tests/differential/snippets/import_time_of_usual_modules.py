import argparse, asyncio, collections, csv, datetime, functools, heapq, itertools, json, logging
import math, os, pathlib, random, re, statistics, string, subprocess, sys, tempfile, textwrap, time
import typing, unittest, uuid

print("all there", json.__name__, re.__file__ is not None)
